"""The audit log of a fleet that scales: one line of JSON for each decision, in a file and in the process's log."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Literal

import msgspec

__all__ = ["AuditLog", "Decision", "Outcome"]

_log = logging.getLogger(__name__)

Outcome = Literal["scaled", "unchanged", "dry_run", "failed"]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of one object, and what came of it.

    ``at`` is epoch seconds of the pipeline's clock, ``asked`` the recommendation, ``wanted`` what the limits of the
    target made of it, ``before`` what ran by the API server (None: it could not be read).
    """

    at: float
    model: str
    pool: str
    target: str
    asked: int
    wanted: int
    before: int | None
    outcome: Outcome
    detail: str = ""


class AuditLog:
    """Appends decisions to a file, opened anew each time so that it can be rotated.

    Args:
        path: the file; None: decisions are logged only.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def check(self) -> None:
        """Open the file for writing: what cannot be recorded must not be done.

        Raises:
            OSError: it cannot be written.
        """
        if self._path is not None:
            with self._path.open("ab"):
                pass

    def write(self, decision: Decision) -> None:
        """Record one decision; the file is on the disk when this returns.

        Raises:
            OSError: the file cannot be written; the decision is in the log all the same.
        """
        line = msgspec.json.encode(decision)
        _log.info("fleet audit: %s", line.decode())
        if self._path is not None:
            with self._path.open("ab") as file:
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
