"""The durable table of window keys: (model, pool, dimensions) by number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.store.sql import run, texts
from pipeline.windows.types import PoolKey, WindowKey

__all__ = ["OTHER", "KeyTable"]

#: Where pools (or dimension values) beyond the limit are counted.
OTHER = "__other__"
#: Extra dimension values are kept apart up to this many keys per allowed pool.
_KEYS_PER_POOL = 100


class KeyTable:
    """The durable table of window keys; decides which keys fold into ``__other__``."""

    def __init__(self, connection: Any, max_pools: int) -> None:
        self._connection = connection
        self._max_pools = max_pools
        self.reload()

    def reload(self) -> None:
        """Forget what was not committed."""
        rows = self._connection.execute("SELECT key_id, model, pool, dims FROM keys").fetchall()
        self._ids: dict[WindowKey, int] = {WindowKey(*names): key_id for key_id, *names in rows}
        self._next_id = 1 + max(self._ids.values(), default=-1)
        self._pools = {(key.model, key.pool) for key in self._ids}
        of_pools: dict[tuple[str, str], list[int]] = {}
        for key, key_id in self._ids.items():
            of_pools.setdefault((key.model, key.pool), []).append(key_id)
        self._of_pools = of_pools
        self._new: list[WindowKey] = []
        #: Every (model, pool) of which a key is durable, sorted; any thread may look.
        self.stored_pools = tuple(sorted(of_pools))

    def stored(self) -> None:
        """Take note that what ``write`` wrote is committed."""
        if len(self._of_pools) > len(self.stored_pools):
            self.stored_pools = tuple(sorted(self._of_pools))

    def of_pool(self, model: str, pool: str) -> tuple[int, ...]:
        """Return the ids of all keys of a pool, also of those that are not durable yet; any thread may call."""
        return tuple(self._of_pools.get((model, pool), ()))

    def ids(self, keys: Sequence[WindowKey]) -> NDArray[np.int64]:
        """Return the ids of keys, new ones included; ``write`` makes these durable."""
        return np.array([self._id(key) for key in keys], np.int64)

    def pools(self, keys: Sequence[WindowKey]) -> list[PoolKey]:
        """Return the pools in which keys are counted, once ``ids`` has been asked for them."""
        pools = [PoolKey(key.model, key.pool) for key in keys]
        return [pool if pool in self._pools else PoolKey(OTHER, OTHER) for pool in pools]

    def write(self) -> None:
        """Insert the new keys; call inside the transaction that uses them."""
        if self._new:
            batch = {
                "key_id": np.array([self._ids[key] for key in self._new], np.int64),
                "model": texts([key.model for key in self._new]),
                "pool": texts([key.pool for key in self._new]),
                "dims": texts([key.dims for key in self._new]),
            }
            run(self._connection, "INSERT INTO keys SELECT key_id, model, pool, dims FROM batch", batch)
            self._new = []

    def _id(self, key: WindowKey) -> int:
        found = self._ids.get(key)
        if found is not None:
            return found
        if (key.model, key.pool) not in self._pools and len(self._pools) >= self._max_pools:
            key = WindowKey(OTHER, OTHER, "")
        elif key.dims and len(self._ids) >= self._max_pools * _KEYS_PER_POOL:
            key = key._replace(dims=OTHER)
        if key not in self._ids:
            self._ids[key] = self._next_id
            self._next_id += 1
            self._new.append(key)
            self._of_pools.setdefault((key.model, key.pool), []).append(self._ids[key])
            if key.model != OTHER:
                self._pools.add((key.model, key.pool))
        return self._ids[key]
