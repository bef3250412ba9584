"""The engine's state in the store: what pools share in one row, and one row per pool, not all of the same step.

Snapshots of pools are spread over steps, since all at once would stop everything else for seconds. A restart continues
from the oldest shared state that is needed, and steps again what each pool has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.store.sql import run, texts
from pipeline.windows.types import PoolKey

__all__ = ["Snapshots", "read_snapshots", "write_snapshots"]


@dataclass(frozen=True, slots=True)
class Snapshots:
    """The engine's state: shared by the pools after the step of ``as_of``, and of pools after later steps.

    ``pools`` holds (as_of, bytes); ``as_of`` is the newest step or revision that the pool has seen. Pools that are not
    in it are in ``shared``, or came after its step.
    """

    as_of: int
    shared: bytes
    pools: Mapping[PoolKey, tuple[int, bytes]] = field(default_factory=dict)


def read_snapshots(cursor: Any) -> Snapshots | None:
    """Return what a restart continues from; None: nothing was kept."""
    shared = cursor.execute("SELECT as_of, body FROM snapshots ORDER BY as_of LIMIT 1").fetchone()
    if shared is None:
        return None
    rows = cursor.execute(
        "SELECT model, pool, as_of, body FROM pool_snapshots WHERE as_of >= ?", [shared[0]]
    ).fetchall()
    pools = {PoolKey(model, pool): (int(as_of), bytes(body)) for model, pool, as_of, body in rows}
    return Snapshots(int(shared[0]), bytes(shared[1]), pools)


def write_snapshots(
    connection: Any,
    as_of: int,
    shared: bytes,
    pools: Mapping[PoolKey, bytes],
    oldest: int,
    seen: int | None = None,
) -> None:
    """Keep the state after the step of ``as_of`` and drop what is older than ``oldest``; call inside a transaction.

    ``oldest`` is the step of the oldest snapshot of a pool that is still needed, or ``as_of``. ``seen`` is the newest
    revision since the step, which the pools have seen; None: there was none.
    """
    if pools:
        names = {"model": texts([key.model for key in pools]), "pool": texts([key.pool for key in pools])}
        run(connection, "DELETE FROM pool_snapshots USING batch b WHERE pool_snapshots.model = b.model "
            "AND pool_snapshots.pool = b.pool", names)  # fmt: skip
        batch = {
            **names,
            "as_of": np.full(len(pools), as_of if seen is None else seen, np.int64),
            "body": texts(list(pools.values())),
        }
        run(connection, "INSERT INTO pool_snapshots SELECT model, pool, as_of, body FROM batch", batch)
    connection.execute("DELETE FROM pool_snapshots WHERE as_of < ?", [oldest])
    connection.execute("DELETE FROM snapshots WHERE as_of < ? OR as_of >= ?", [oldest, as_of])
    connection.execute("INSERT INTO snapshots VALUES (?, ?)", [as_of, shared])
