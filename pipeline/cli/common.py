"""What the commands share: settings, output, errors with exit codes, calls to a running instance.

Data goes to stdout, notices to stderr. Exit codes: 0 ok, 1 failed, 2 wrong usage or input, 3 findings, 78 bad
configuration.
"""

from __future__ import annotations

import json
import math
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console

from pipeline.cli.tables import laid_out
from pipeline.cli.visible import visible
from pipeline.config.settings import Settings, load
from pipeline.errors import ConfigError, InputError, ServerUnavailable, TokentideError
from sizing.errors import SizingError

__all__ = [
    "EXIT_CONFIG",
    "EXIT_FAILED",
    "EXIT_FINDINGS",
    "EXIT_USAGE",
    "ConfigOption",
    "Output",
    "OutputOption",
    "UrlOption",
    "call",
    "clean_errors",
    "counted",
    "emit",
    "fail",
    "notice",
    "say",
    "settings_from",
]

P = ParamSpec("P")
R = TypeVar("R")

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_FINDINGS = 3
EXIT_CONFIG = 78


class Output(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"


#: Wide enough for every table that the commands print.
_PIPE_COLUMNS = 400

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file; the environment wins over it.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print the data.")]
UrlOption = Annotated[str, typer.Option("--url", help="Where a running instance serves its API.")]


def notice(text: str) -> None:
    """Tell the user something that is not data."""
    print(visible(text, keep="\n"), file=sys.stderr, flush=True)


def counted(number: int, noun: str) -> str:
    """``1 pool``, ``2 pools``, ``1,440 pools``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def say(text: str) -> None:
    """Print an answer that is text, maybe of several lines."""
    print(visible(text, keep="\n"), flush=True)


def fail(text: str, code: int) -> NoReturn:
    """End with one clear line on stderr and an exit code."""
    notice(visible(f"tokentide: {text}"))
    raise typer.Exit(code)


def clean_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors that Tokentide raises on purpose into one line and the documented exit code.

    A number that is not finite is refused for every option: to the limits of an option, NaN is in range, and so is
    infinity where there is no upper one.
    """

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, value in kwargs.items():
            if isinstance(value, float) and not math.isfinite(value):
                fail(f"--{name.replace('_', '-')} must be a finite number, not {value}", EXIT_USAGE)
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            fail(str(error), EXIT_CONFIG)
        except (InputError, SizingError) as error:
            fail(str(error), EXIT_USAGE)
        except TokentideError as error:
            fail(str(error), EXIT_FAILED)

    return wrapped


def settings_from(config: Path | None, **overrides: Any) -> Settings:
    """Load the settings, leaving out overrides that are None or empty."""
    kept = {section: {k: v for k, v in values.items() if v is not None} for section, values in overrides.items()}
    return load(config, **{section: values for section, values in kept.items() if values})


def emit(output: Output, data: Any, columns: Sequence[str] = (), rows: Iterable[Sequence[Any]] = ()) -> None:
    """Print ``data`` as JSON, or ``rows`` as a table."""
    if output is Output.JSON:
        print(json.dumps(data, indent=2, allow_nan=False, default=str))
        return
    # Rich takes a pipe for a terminal of 80 columns; what reads it wants a row a line.
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else _PIPE_COLUMNS)
    console.print(laid_out(columns, rows, console.width, blocks=terminal))


def call(url: str, path: str, **query: str | float | None) -> Any:
    """GET JSON from a running instance.

    Raises:
        ServerUnavailable: nobody answers there, or what answers is not Tokentide.
        InputError: the instance refused the question; the text is its reason.
    """
    asked = {k: str(v) for k, v in query.items() if v is not None}
    address = url.rstrip("/") + path + (f"?{urllib.parse.urlencode(asked)}" if asked else "")
    if not address.startswith(("http://", "https://")):
        raise InputError(f"{url} is not an http address")
    try:
        with urllib.request.urlopen(address, timeout=10) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        try:
            problem = json.load(error)
            detail = problem.get("detail") or problem.get("title") or str(error)
        except (ValueError, AttributeError):
            detail = str(error)
        raise InputError(f"{address}: {detail}") from error
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise ServerUnavailable(f"nothing answers at {url} ({reason}); is `tokentide run` up?") from error
    except ValueError as error:
        raise ServerUnavailable(f"{address} did not answer with JSON: {error}") from error
