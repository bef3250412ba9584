"""What a bridge remembers over restarts: the counters that it has counted, and the delta that says so.

The file is written before the delta goes to Kafka. After a crash in between, the log tells whether the delta is there;
if not, the very same bytes are written: requests are neither counted twice nor lost.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pipeline.bridge.increments import TargetState
from pipeline.bridge.readings import MAX_SERIES
from pipeline.errors import InputError, TokentideError

__all__ = ["BridgeState", "load_state", "save_state"]

_MOST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class BridgeState:
    """State of the bridge ``source`` after the delta up to number ``through``: ``delta`` is that delta, encoded (empty:
    none was made yet), ``targets`` what has been counted of each target.
    """

    source: str
    through: int = -1
    delta: bytes = b""
    targets: Mapping[str, TargetState] = field(default_factory=dict)


class _Target(msgspec.Struct):
    at: float
    started: float | None
    series: list[tuple[str, str, str]]
    values: list[float]


class _File(msgspec.Struct):
    version: int
    source: str
    through: int
    delta: bytes
    targets: dict[str, _Target]


_VERSION = 1


def load_state(path: Path, source: str) -> BridgeState:
    """Read the state of the bridge ``source``; a file that does not exist is the state of one that never ran.

    Raises:
        InputError: the file cannot be read, is damaged, or belongs to another bridge.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path} is larger than {_MOST_BYTES} bytes: no state of a bridge")
        found = msgspec.msgpack.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return BridgeState(source)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not the state of a bridge ({str(error)[:100]}); delete it to start again"
        ) from error
    sound = all(len(t.series) == len(t.values) <= MAX_SERIES for t in found.targets.values())
    if found.version != _VERSION or found.source != source or not sound:
        raise InputError(f"{path} is not the state of {source!r} as this version writes it; delete it to start again")
    targets = {
        key: TargetState(t.at, t.started, dict(zip(t.series, t.values, strict=True)))
        for key, t in found.targets.items()
    }
    return BridgeState(source, found.through, found.delta, targets)


def save_state(path: Path, state: BridgeState) -> None:
    """Replace the file as a whole; it is on the disk when this returns.

    Raises:
        TokentideError: it cannot be written.
    """
    targets = {
        key: _Target(t.at, t.started, list(t.values), list(t.values.values())) for key, t in state.targets.items()
    }
    content = msgspec.msgpack.encode(_File(_VERSION, state.source, state.through, state.delta, targets))
    beside = path.with_name(f"{path.name}.new")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(path.resolve().parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise TokentideError(f"cannot write {path}: {error.strerror or error}") from error
