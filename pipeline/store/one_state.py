"""Several reads of one answer see one state of the store, while the writer goes on and never waits for them.

Readers look at a number that the writer changes right before a commit and once memory says the same as the file (a
sequence lock). Where it has changed meanwhile they read again, at last from the file alone in one transaction.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pipeline.store.sql import transaction

__all__ = ["OneState"]

T = TypeVar("T")

#: Reads are made so often, and so long is waited for a commit under way, before the file alone is asked.
_ATTEMPTS, _PAUSE_SECONDS = 3, 0.001


class OneState:
    """``transaction`` and ``shown`` are for the one writer; any thread may call the others."""

    def __init__(self) -> None:
        self._number = 0  # odd: a commit is not shown everywhere yet
        self._local = threading.local()

    @contextmanager
    def transaction(self, connection: Any) -> Iterator[None]:
        """Run the block in one transaction, as ``sql.transaction``; call ``shown`` once memory says the same.

        Raises:
            StoreError: DuckDB refused; nothing of the block remains.
        """
        try:
            with transaction(connection):
                yield
                self._number |= 1
        except BaseException:
            self.shown()
            raise

    def shown(self) -> None:
        """What was committed is told by all that readers ask; without a commit nothing happens."""
        self._number += self._number & 1

    def read(self, cursor: Any, closed: int, read: Callable[[], T]) -> T:
        """Return what ``read`` returns, all of whose reads are of one state; it may be called several times.

        Args:
            cursor: that of this thread, with which ``read`` asks.
            closed: end of the last step that is recorded, epoch seconds (0: none).
            read: the reads; what memory knows they ask only while ``pinned`` is None.
        """
        for _ in range(_ATTEMPTS):
            before = self._number
            if before & 1:
                time.sleep(_PAUSE_SECONDS)
                continue
            found = read()
            if self._number == before:
                return found
        self._local.closed = closed
        try:
            cursor.execute("BEGIN")
            try:
                return read()
            finally:
                cursor.execute("ROLLBACK")  # nothing was written
        finally:
            self._local.closed = None

    def pinned(self) -> int | None:
        """Return the ``closed`` of reads of this thread that must ask the file alone; None: memory may answer."""
        closed: int | None = getattr(self._local, "closed", None)
        return closed
