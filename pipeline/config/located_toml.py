"""TOML that users write by hand: what is wrong with it is refused with the file and the line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.config.user_files import read_text
from pipeline.errors import InputError
from sizing.errors import SizingError

__all__ = ["Located", "Section", "read_located"]


class Section(BaseModel):
    """A table of such a file: unknown keys, numbers that are not finite and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


Content = TypeVar("Content", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Located(Generic[Content]):
    """A file and its content, with the lines of its entries."""

    path: Path
    text: str
    content: Content

    @contextmanager
    def at(self, table: str, number: int, key: str | None = None) -> Iterator[None]:
        """Name the file and the line of an entry (of its ``key``) in what is refused about it.

        Raises:
            InputError: what was refused, with the place.
        """
        try:
            yield
        except (SizingError, InputError) as error:
            raise InputError(f"{self.path}, line {_line(self.text, table, number, key)}: {error}") from error

    def check_once(self, table: str, key: str, names: list[object]) -> None:
        """Refuse a table in which the same name is there twice.

        Raises:
            InputError: it is; with the line of ``key`` in the second entry.
        """
        seen: set[object] = set()
        for number, name in enumerate(names):
            if name in seen:
                raise InputError(f"{self.path}, line {_line(self.text, table, number, key)}: {name!r} is there twice")
            seen.add(name)


def read_located(path: Path, kind: type[Content]) -> Located[Content]:
    """Return a TOML file as ``kind``.

    Raises:
        InputError: it cannot be read or understood; the text names the file and the line.
    """
    text = read_text(path)
    try:
        return Located(path, text, kind.model_validate(tomllib.loads(text)))
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        raise InputError(f"{path}, line {found[1] if found else _line_count(text)}: {error}") from error
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply") from error
    except ValidationError as error:
        raise InputError(_first_problem(path, text, error)) from error


def _first_problem(path: Path, text: str, error: ValidationError) -> str:
    problem = error.errors()[0]
    where = [str(part) for part in problem["loc"]]
    table, number, key = "", 0, where[0] if where else None
    if len(where) > 1 and where[1].isdigit():
        table, number, key = where[0], int(where[1]), where[2] if len(where) > 2 else None
    elif len(where) > 1:
        table, number, key = where[0], 0, where[1]
    shown = "" if problem["type"] == "missing" else f", not {str(problem['input'])[:60]!r}"
    named = ".".join(part for part in where if not part.isdigit())
    return f"{path}, line {_line(text, table, number, key)}: {named}: {problem['msg']}{shown}"


def _line_count(text: str) -> int:
    return text.count("\n") + 1


def _line(text: str, table: str, number: int, key: str | None) -> int:
    """Return the line of a key in the ``number``-th entry of a table, of its heading where the key is not there."""
    entries, inside, start = -1, not table, 1
    for at, line in enumerate(text.splitlines(), 1):
        heading = re.match(r"\s*\[+\s*([A-Za-z0-9_\"'.-]+)\s*\]", line)
        if heading:
            if inside and not heading[1].startswith(f"{table}."):
                return start
            name = heading[1].strip("\"'")
            entries += name == table
            if name == table and entries == number:
                inside, start = True, at
        elif key is not None and inside and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return at
        elif table and re.match(rf"\s*{table}\s*=", line):
            start = at  # an array of inline tables
    return start
