"""The oracle: what must come out, counted in the plainest way that there is, and the comparison with a store."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.store.store import Store
from pipeline.windows.histogram import GAMMA, ZERO_BUCKET
from pipeline.windows.types import BASE_SECONDS, HISTOGRAMS

__all__ = ["Contents", "Oracle", "added_after_closing", "contents", "request_event"]

#: The measures and histograms that the oracle counts.
COMPARED = (
    "requests",
    "ok",
    "error",
    "cancelled",
    "rejected",
    "timeout",
    "input_tokens",
    "output_tokens",
    "input_tokens_squared",
    "output_tokens_squared",
    "input_output_product",
    "inflight_milliseconds",
)
COMPARED_HISTOGRAMS = tuple(
    HISTOGRAMS.index(n) for n in ("input_tokens", "output_tokens", "ttft_seconds", "e2e_seconds")
)


def request_event(event_id: str, arrived_at: float, **fields: Any) -> dict[str, Any]:
    """Return a valid request event as plain data; ``fields`` are added or replace its values (None removes one).

    >>> request_event("a", 1000.0, model="m", output_tokens=None)["model"]
    'm'
    """
    event = {
        "schema": "tokentide.request.completed.v1",
        "event_id": event_id,
        "model": "model",
        "status": "ok",
        "arrived_at": arrived_at,
        "e2e_seconds": 2.0,
        "input_tokens": 100,
        "output_tokens": 10,
        **fields,
    }
    return {name: value for name, value in event.items() if value is not None}


class Oracle:
    """Counts what must come out, from the events that were produced, in the plainest way that there is.

    ``rows`` is {(window start, model, pool): Counter of the measures}, ``histograms`` the same with (metric, bucket).
    Ids are remembered for ever, over all partitions; ``from_log`` goes by the horizon of a partition as the pipeline
    does. ``lost`` is how many offsets retention took away before they were read. Every record holds one event, or none
    and is ignored.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[int, str, str], Counter[str]] = defaultdict(Counter)
        self.histograms: dict[tuple[int, str, str], Counter[tuple[int, int]]] = defaultdict(Counter)
        self.records = self.events = self.duplicates = self.ignored = self.lost = 0
        self.dead_letters: Counter[str] = Counter()
        self._seen: set[tuple[Any, ...]] = set()

    @classmethod
    def from_log(
        cls,
        partitions: Mapping[int, Iterable[tuple[int, bytes | None]]],
        poison: Mapping[bytes | None, str],
        horizon_records: int,
        read: Callable[[bytes], dict[str, Any] | None] = json.loads,
    ) -> Oracle:
        """Count the truth straight from the records of a topic.

        Args:
            partitions: {partition: (offset, value) in ascending order}.
            poison: the values that must become dead letters, and why; every other value must be a valid event.
            horizon_records: an id counts once within this many offsets of its partition.
            read: gives the event of a value as plain data; None: it holds none.
        """
        oracle = cls()
        for records in partitions.values():
            newest: dict[tuple[Any, ...], int] = {}
            for offset, value in records:
                if value in poison:
                    oracle.poison(value, poison[value])
                    continue
                assert value is not None
                event = read(value)
                if event is None:
                    oracle.records += 1
                    oracle.ignored += 1
                    continue
                name = _identity(event)
                oracle._note(event, name in newest and newest[name] >= offset - horizon_records)
                newest[name] = offset
        return oracle

    def event(self, event: dict[str, Any]) -> bytes:
        """Count one valid event (again: as a duplicate) and return it as JSON."""
        name = _identity(event)
        self._note(event, name in self._seen)
        self._seen.add(name)
        return json.dumps(event).encode()

    def poison(self, value: bytes | None, reason: str) -> bytes | None:
        """Count one record that must become a dead letter for ``reason`` and return it."""
        self.records += 1
        self.dead_letters[reason] += 1
        return value

    def _note(self, event: dict[str, Any], duplicate: bool) -> None:
        self.records += 1
        if duplicate:
            self.duplicates += 1
            return
        self.events += 1
        start = int(event["arrived_at"] // BASE_SECONDS) * BASE_SECONDS
        key = (start, event["model"], event.get("pool", "default"))
        tokens_in, tokens_out = event["input_tokens"], event["output_tokens"]
        row = self.rows[key]
        row["requests"] += 1
        row[event["status"]] += 1
        row["input_tokens"] += tokens_in
        row["output_tokens"] += tokens_out
        row["input_tokens_squared"] += tokens_in**2
        row["output_tokens_squared"] += tokens_out**2
        row["input_output_product"] += tokens_in * tokens_out
        row["inflight_milliseconds"] += round(event["e2e_seconds"] * 1000)
        values = {
            "input_tokens": tokens_in,
            "e2e_seconds": event["e2e_seconds"],
        }
        if event["status"] == "ok":
            values |= {"output_tokens": tokens_out, "ttft_seconds": event.get("ttft_seconds")}
        for name, value in values.items():
            if value is not None:
                self.histograms[key][HISTOGRAMS.index(name), _bucket(value)] += 1

    def differences(self, store: Store | Contents) -> list[str]:
        """Compare with a store; an empty list means that every window, token, histogram and ledger entry is right.

        Late events are checked by the store's own books: what was added to windows after they closed is what they
        hold now beyond what they held as they closed.
        """
        held = contents(store) if isinstance(store, Store) else store
        found = list(held.problems)
        for key in sorted(held.rows.keys() | self.rows.keys()):
            wanted = tuple(self.rows[key][name] for name in COMPARED) if key in self.rows else None
            if held.rows.get(key) != wanted:
                found.append(f"window {key}: stored {held.rows.get(key)}, produced {wanted}")
        found += [
            f"histograms of {key}: stored {held.histograms.get(key)}, produced {self.histograms.get(key)}"
            for key in sorted(held.histograms.keys() | self.histograms.keys())
            if held.histograms.get(key) != self.histograms.get(key)
        ]
        wanted_ledger = {
            "records": self.records,
            "events": self.events,
            "duplicates": self.duplicates,
            "dead_letters": self.dead_letters.total(),
            "late": held.added_after_closing,
            "lost": self.lost,
            "ignored": self.ignored,
            "event_records": self.events + self.duplicates,
        }
        found += [
            f"ledger: {name} {held.ledger.get(name, 0)}, must be {value}"
            for name, value in wanted_ledger.items()
            if held.ledger.get(name, 0) != value
        ]
        if held.dead_letters != dict(self.dead_letters):
            found.append(f"dead letters {held.dead_letters}, produced {dict(self.dead_letters)}")
        return found


def _identity(event: dict[str, Any]) -> tuple[Any, ...]:
    """What makes two records the same request."""
    return tuple(event.get(name) for name in ("event_id", "attempt", "arrived_at", "input_tokens", "output_tokens"))


@dataclass(slots=True)
class Contents:
    """What a store holds, in the oracle's terms; rows and histograms by (window start, model, pool).

    ``ledger`` has the totals of records, events, duplicates, dead_letters, late and lost. ``problems`` are rows that
    should not be there at all.
    """

    rows: dict[tuple[int, str, str], tuple[int, ...]]
    histograms: dict[tuple[int, str, str], Counter[tuple[int, int]]]
    ledger: dict[str, int]
    dead_letters: dict[str, int]
    added_after_closing: int
    problems: list[str] = field(default_factory=list)


def contents(store: Store) -> Contents:
    """Read what a DuckDB store holds."""
    cursor = store.cursor()
    query = f"SELECT window_start, model, pool, {', '.join(COMPARED)} FROM windows JOIN keys USING (key_id)"
    problems = []
    rows: dict[tuple[int, str, str], tuple[int, ...]] = {}
    for start, model, pool, *values in cursor.execute(query).fetchall():
        if (int(start), model, pool) in rows:
            problems.append(f"window {(start, model, pool)} is stored twice")
        rows[int(start), model, pool] = tuple(values)
    query = (
        "SELECT window_start, model, pool, metric, bucket, sum(n)::BIGINT FROM histograms JOIN keys USING (key_id) "
        f"WHERE metric IN ({', '.join(map(str, COMPARED_HISTOGRAMS))}) GROUP BY ALL"
    )
    cells: dict[tuple[int, str, str], Counter[tuple[int, int]]] = defaultdict(Counter)
    for start, model, pool, metric, bucket, n in cursor.execute(query).fetchall():
        cells[int(start), model, pool][metric, bucket] = n
    ledger: Counter[str] = Counter()
    for row in store.ledger():
        ledger.update({name: n for name, n in row.items() if name not in ("topic", "partition")})
    return Contents(
        rows, dict(cells), dict(ledger), dict(store.dead_letter_reasons()), added_after_closing(store), problems
    )


def added_after_closing(store: Store) -> int:
    """Requests that closed windows hold now beyond what they held as they closed: the late ones."""
    (now, then) = (
        store.cursor()
        .execute(
            "SELECT (SELECT coalesce(sum(requests), 0) FROM windows "
            "WHERE window_start < (SELECT max(as_of) FROM steps)), "
            "(SELECT coalesce(sum(requests), 0) FROM closed_windows)"
        )
        .fetchone()
    )
    return int(now) - int(then)


def _bucket(value: float) -> int:
    """The histogram bucket of a value, by the definition."""
    return math.ceil(math.log(value) / math.log(GAMMA)) if value >= 1e-9 else ZERO_BUCKET
