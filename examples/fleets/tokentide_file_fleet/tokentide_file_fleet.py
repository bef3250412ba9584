"""A fleet of your own: replica counts from a JSON file, and wanted counts into another one.

[fleet]
source = "file"
options.path = "/run/fleet/replicas.json"      # {"pools": [{"model": "m", "pool": "p", "current": 4, "ready": 3}]}
options.wanted_path = "/run/fleet/wanted.json" # {"m/p": 6}, written when fleet.actuate is true
actuate = true
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Annotated, Any

import msgspec
from pydantic import Field

from pipeline.errors import CodecError
from pipeline.fleet.background import Background
from pipeline.fleet.base import FleetContext
from pipeline.fleet.kafka_reports import ReplicaStatus
from pipeline.sinks.options import Options, checked
from pipeline.windows.types import PoolKey

__all__ = ["FileFleet", "file_fleet"]

_log = logging.getLogger(__name__)
_MAX_BYTES = 10_000_000


class FileFleetOptions(Options):
    """The keys of ``fleet.options``; unknown ones are refused."""

    path: Path
    wanted_path: Path | None = None
    every_seconds: Annotated[float, Field(gt=0, le=60)] = 10.0


class FileFleet(Background):
    """Reads the file again and again; a file that is missing or broken is logged and tried again."""

    def __init__(self, context: FleetContext) -> None:
        self._context = context
        self._options = checked(FileFleetOptions, context.options, "fleet.options")
        self._wanted: dict[str, int] = {}
        self.can_scale = self._options.wanted_path is not None
        self.rejected = 0

    async def scale(self, key: PoolKey, replicas: int) -> None:
        """Write what is wanted, as a whole: a reader never sees half a file."""
        if self._options.wanted_path is None:
            raise NotImplementedError("fleet.options.wanted_path is not set")
        self._wanted[f"{key.model}/{key.pool}"] = replicas
        await asyncio.to_thread(_replace, self._options.wanted_path, json.dumps(self._wanted))

    async def _run(self) -> None:
        while True:
            try:
                pools = await asyncio.to_thread(_pools, self._options.path)
            except (OSError, ValueError) as error:
                _log.warning("%s: %s", self._options.path, error)
                pools = []
            for pool in pools:
                self._report(pool)
            await asyncio.sleep(self._options.every_seconds)

    def _report(self, pool: Any) -> None:
        try:
            self._context.report(msgspec.convert({"at": self._context.clock.now(), **pool}, ReplicaStatus))
        except (CodecError, msgspec.ValidationError, TypeError) as error:
            self.rejected += 1
            _log.warning("%s: %s", self._options.path, error)


def _pools(path: Path) -> list[Any]:
    with path.open("rb") as file:
        data = json.loads(file.read(_MAX_BYTES))
    pools = data.get("pools") if isinstance(data, dict) else None
    if not isinstance(pools, list):
        raise ValueError('expected {"pools": [...]}')
    return pools


def _replace(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def file_fleet(context: FleetContext) -> FileFleet:
    """What the entry point names."""
    return FileFleet(context)
