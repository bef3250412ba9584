"""Files that users hand over: JSON, YAML, text, compressed or not; every one is untrusted."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import InputError

__all__ = ["read_json", "read_mapping", "read_text"]

#: Larger files are refused: a GuideLLM report with every request of a long sweep has some 100 MB.
MAX_BYTES = 512 * 2**20
#: PyYAML needs seconds of CPU for this much (0.2 million characters of small mappings took 1.4 s on 2026-12-01).
_MAX_YAML_CHARACTERS = 1_000_000


def read_text(path: Path) -> str:
    """Return the content of a UTF-8 text file or pipe, decompressed where its name ends in ``.gz``.

    Raises:
        InputError: it cannot be read, is too large (decompressed, too) or is in another encoding.
    """
    try:
        size = path.stat().st_size
        if not (path.is_file() or path.is_fifo()):
            raise InputError(f"{path} is not a file")
        if size > MAX_BYTES:
            raise InputError(
                f"{path} has {size / 2**20:,.0f} MiB, more than the {MAX_BYTES / 2**20:,.0f} that are read"
            )
        content = _decompressed(path) if path.suffix.lower() == ".gz" else _bounded(path)
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InputError(f"{path} is UTF-16 text; convert it: iconv -f UTF-16 -t UTF-8")
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:  # a pipe, which does not say so beforehand
        raise InputError(f"{path} has more than the {MAX_BYTES / 2**20:,.0f} MiB that are read")
    return content


def _decompressed(path: Path) -> bytes:
    with gzip.open(path) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} decompresses to more than the {MAX_BYTES / 2**20:,.0f} MiB that are read")
    return content


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: it cannot be read, is too large or is not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {_reason(error)}") from error


def _reason(error: ValueError) -> str:
    """What is wrong with a file; Python's own advice on long integers is of no use to its author."""
    return "an integer has more than 4,300 digits" if "integer string conversion" in str(error) else str(error)


def read_mapping(path: Path) -> Mapping[str, Any]:
    """Return the content of a YAML or JSON file that holds a mapping.

    Raises:
        InputError: it cannot be read or holds something else.
    """
    if path.suffix == ".json":
        content = read_json(path)
    else:
        try:
            text = read_text(path)
            if len(text) > _MAX_YAML_CHARACTERS:
                raise InputError(
                    f"{path} has {len(text):,} characters, more than the {_MAX_YAML_CHARACTERS:,} that are read of YAML"
                )
            content = yaml.safe_load(text)
        except RecursionError as error:
            raise InputError(f"{path} is nested too deeply") from error
        except ValueError as error:  # of the constructors of numbers and dates
            raise InputError(f"{path} is not YAML: {_reason(error)}") from error
        except yaml.YAMLError as error:
            raise InputError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path} must hold a mapping, not {type(content).__name__}")
    return content
