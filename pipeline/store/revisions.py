"""Revisions: readings of fleets that changed advice between two steps, and the order of steps and revisions."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import chain, groupby
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from pipeline.engine.types import Reading, RevisionInput, StepInput, StepOutput
from pipeline.store.sql import run, texts
from pipeline.store.steps import closed_since, newest_advice, write_recommendations
from pipeline.windows.fleet import FleetReport
from pipeline.windows.types import PoolKey

__all__ = ["inputs_since", "newest_revision", "revised_output", "write_revision"]

_FLEET = msgspec.json.Decoder(FleetReport | None)
_FIELDS = ("model", "pool", "fleet", "current_replicas", "ready_replicas")


def write_revision(connection: Any, output: StepOutput, after: int | None) -> None:
    """Write what a revision said and the readings that it was made from; call inside a transaction.

    ``after`` is the step that it follows, epoch seconds; None: none has been made yet.
    """
    readings = output.readings
    batch: dict[str, Any] = {
        "as_of": np.full(len(readings), output.as_of, np.int64),
        "seq": np.arange(len(readings), dtype=np.int64),
        "after_step": np.full(len(readings), -1 if after is None else after, np.int64),
        "model": texts([reading.key.model for reading in readings]),
        "pool": texts([reading.key.pool for reading in readings]),
        **{
            name: np.array([-1 if getattr(r, name) is None else getattr(r, name) for r in readings], np.int64)
            for name in ("current_replicas", "ready_replicas")
        },
        "fleet": texts([msgspec.json.encode(r.fleet).decode() if r.fleet is not None else "" for r in readings]),
    }
    if readings:
        run(
            connection,
            "INSERT INTO readings (as_of, seq, after_step, model, pool, current_replicas, ready_replicas, fleet) "
            "SELECT as_of, seq, nullif(after_step, -1), model, pool, nullif(current_replicas, -1), "
            "nullif(ready_replicas, -1), nullif(fleet, '') FROM batch",
            batch,
        )
    write_recommendations(connection, output.recommendations)


def newest_revision(cursor: Any) -> int | None:
    """Return the time of the newest revision that changed advice, epoch seconds; None: there is none."""
    (as_of,) = cursor.execute("SELECT max(as_of) FROM readings").fetchone()
    return None if as_of is None else int(as_of)


def inputs_since(cursor: Any, as_of: int) -> Iterator[StepInput | RevisionInput]:
    """Yield the steps and the revisions after ``as_of`` (epoch seconds), in order: all that the engine learns from."""
    return merge(closed_since(cursor.cursor(), as_of), _revisions(cursor.cursor(), as_of), key=attrgetter("as_of"))


def _revisions(cursor: Any, as_of: int, chunk_rows: int = 10_000) -> Iterator[RevisionInput]:
    cursor.execute(
        f"SELECT as_of, after_step, {', '.join(_FIELDS)} FROM readings WHERE as_of > ? ORDER BY as_of, seq", [as_of]
    )
    rows = chain.from_iterable(iter(lambda: cursor.fetchmany(chunk_rows), []))
    for (at, after), group in groupby(rows, key=lambda row: (row[0], row[1])):
        readings = tuple(_reading(*row[2:]) for row in group)
        yield RevisionInput(int(at), None if after is None else int(after), readings)


def revised_output(cursor: Any, as_of: int) -> StepOutput:
    """Return what the revision of ``as_of`` said where no step had been made before it.

    Its recommendations are the newest of each pool: earlier revisions may have raised others.
    """
    rows = cursor.execute(f"SELECT {', '.join(_FIELDS)} FROM readings WHERE as_of = ? ORDER BY seq", [as_of]).fetchall()
    readings = tuple(_reading(*row) for row in rows)
    return StepOutput(as_of, recommendations=newest_advice(cursor, 0), readings=readings)


def _reading(model: str, pool: str, fleet: str | None, current: int | None, ready: int | None) -> Reading:
    return Reading(PoolKey(model, pool), _FLEET.decode(fleet or "null"), current, ready)
