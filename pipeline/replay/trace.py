"""Traces to request events: what happened once, as the events that a server would have emitted.

A trace is a table of requests (a time and two token columns), or a table of counts (a time and a count), whose requests
get seeded arrival times inside their bins and lengths drawn from a second, per-request trace.

Traces know no latencies, so they are made up by a simple model that is stated here and nowhere hidden: time to first
token = 0.05 s + input tokens / 10,000 per second; time per output token = 0.025 s; both with lognormal noise of 10 %;
e2e = time to first token + time per output token · (output tokens − 1); no queue, no rejections, no failures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.events.request_event import RequestEvent
from pipeline.replay.kinds import own_step
from pipeline.replay.oddities import refuse_far_times
from pipeline.replay.sources import read_columns
from pipeline.replay.table import Table

__all__ = ["CompletedRecord", "Trace", "completed_records"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FIRST_TOKEN_SECONDS = 0.05
PREFILL_TOKENS_PER_SECOND = 10_000.0
OUTPUT_TOKEN_SECONDS = 0.025
LATENCY_SIGMA = 0.10

#: Column names that public traces use, in the order they are looked for.
TIME_COLUMNS = (
    "timestamp",
    "TIMESTAMP",
    "Timestamp",
    "arrived_at",
    "time",
    "t_s",
    "timestamp_ms",
    "startTime",
    "start_time",
)
INPUT_COLUMNS = (
    "prompt_tokens",
    "input_tokens",
    "ContextTokens",
    "input_length",
    "Request tokens",
    "num_prefill_tokens",
    "gen_ai.usage.input_tokens",
)
OUTPUT_COLUMNS = (
    "output_tokens",
    "completion_tokens",
    "GeneratedTokens",
    "output_length",
    "Response tokens",
    "num_decode_tokens",
    "gen_ai.usage.output_tokens",
)
COUNT_COLUMNS = ("requests", "count", "value", "n")

#: Plausibility limits of one request and of one bin.
MAX_TOKENS = 10_000_000
MAX_BIN_REQUESTS = 5_000_000
#: Requests are expanded and encoded about this many at a time.
CHUNK_REQUESTS = 20_000
#: Times below this are not dates but seconds since the beginning of the trace (1973).
_RELATIVE_BELOW = 1e8

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class CompletedRecord:
    """One encoded event: when it completes (epoch seconds), its bytes, and its tokens for the totals."""

    completed_at: float
    arrived_at: float
    value: bytes
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace file and what its columns mean. ``count_column`` None: one row per request."""

    path: Path
    time_column: str
    input_column: str | None
    output_column: str | None
    count_column: str | None
    time_unit_seconds: float
    first_at: float
    bin_seconds: float | None
    lengths: tuple[Ints, Ints] | None

    @property
    def is_relative(self) -> bool:
        """Whether its times count from the trace's own beginning instead of the epoch."""
        return self.first_at < _RELATIVE_BELOW

    @staticmethod
    def open(
        path: Path,
        *,
        lengths: Path | tuple[Ints, Ints] | None = None,
        time_column: str | None = None,
        input_column: str | None = None,
        output_column: str | None = None,
        count_column: str | None = None,
    ) -> Trace:
        """Look at a trace file; columns that are not named are recognised by the names that public traces use.

        Args:
            path: Parquet or CSV.
            lengths: a per-request trace that a count trace draws its token lengths from, or columns of lengths.
            time_column: times; a column whose name ends in ``_ms`` holds milliseconds.
            input_column: input tokens per request.
            output_column: output tokens per request.
            count_column: requests per row; its bins reach from one row's time to the next one's.

        Raises:
            InputError: a column is missing or holds what it must not, or a count trace comes without lengths.
        """
        with Table(path) as table:
            named = [c for c in (time_column, input_column, output_column, count_column) if c is not None]
            table.require(named)
            time = time_column or _first_of(table, TIME_COLUMNS, "time")
            known_input = input_column or next((c for c in INPUT_COLUMNS if c in table.types), None)
            known_output = output_column or next((c for c in OUTPUT_COLUMNS if c in table.types), None)
            unit = 1e-3 if time.endswith("_ms") and table.is_epoch(time) else 1.0
            if unit == 1.0:
                table.refuse_finer_times(time)
            seconds = f"({table.seconds(time)} * {unit})"
            table.refuse_bad(time, f"{seconds} IS NULL OR NOT isfinite({seconds})", "a time that cannot be read")
            refuse_far_times(table, seconds, time)
            first = table.one(f"SELECT min({seconds}) FROM source")
            first_at = float(first[0]) if first is not None and first[0] is not None else 0.0
            if count_column is None and known_input is not None and known_output is not None:
                for column in (known_input, known_output):
                    number = table.number(column)
                    bad = f"{number} IS NULL OR NOT isfinite({number}) OR {number} < 0 OR {number} > {MAX_TOKENS}"
                    table.refuse_bad(column, bad, f"no token count between 0 and {MAX_TOKENS}")
                return Trace(path, time, known_input, known_output, None, unit, first_at, None, None)
            count = count_column or _first_of(table, COUNT_COLUMNS, "input and output token, or count")
            number = table.number(count)
            bad = f"{number} IS NULL OR NOT ({number} BETWEEN 0 AND {MAX_BIN_REQUESTS}) OR {number} != floor({number})"
            table.refuse_bad(count, bad, f"no whole count between 0 and {MAX_BIN_REQUESTS}")
            width = own_step(table, seconds, "'all'")
        if lengths is None:
            raise InputError(
                f"{path.name} holds counts; name a per-request trace to draw token lengths from (--lengths)"
            )
        if width is None:
            raise InputError(f"{path.name} holds a single instant; the width of its bins cannot be told")
        if isinstance(lengths, tuple):
            return Trace(path, time, None, None, count, unit, first_at, width, lengths)
        source = Trace.open(lengths)
        if source.input_column is None or source.output_column is None:
            raise InputError(f"{lengths.name} holds no token lengths per request")
        found = read_columns(lengths, [source.input_column, source.output_column])
        drawn = (found[source.input_column].astype(np.int64), found[source.output_column].astype(np.int64))
        return Trace(path, time, None, None, count, unit, first_at, width, drawn)

    def arrivals(self, seed: int) -> Iterator[tuple[Floats, Ints, Ints]]:
        """Yield (arrival in the trace's own epoch or relative seconds, input tokens, output tokens), in order.

        A bin with ``n`` requests yields exactly ``n`` arrivals inside it, uniformly spread (a Poisson process given
        its count); draws depend on the seed and the bin's number alone.
        """
        with Table(self.path) as table:
            seconds = f"({table.seconds(self.time_column)} * {self.time_unit_seconds})"
            if self.count_column is None:
                yield from self._requests(table, seconds)
            else:
                yield from self._expanded(table, seconds, seed)

    def _requests(self, table: Table, seconds: str) -> Iterator[tuple[Floats, Ints, Ints]]:
        assert self.input_column is not None
        assert self.output_column is not None
        inputs, outputs = table.number(self.input_column), table.number(self.output_column)
        # Equal times keep one fixed order, so that a second replay makes the same events.
        query = f"SELECT {seconds} AS t, {inputs} AS i, {outputs} AS o FROM source ORDER BY t, i, o"
        for chunk in table.chunks(query):
            yield chunk["t"].astype(np.float64), chunk["i"].astype(np.int64), chunk["o"].astype(np.int64)

    def _expanded(self, table: Table, seconds: str, seed: int) -> Iterator[tuple[Floats, Ints, Ints]]:
        assert self.count_column is not None
        assert self.bin_seconds is not None
        assert self.lengths is not None
        counts = table.number(self.count_column)
        query = f"SELECT {seconds} AS t, sum({counts})::BIGINT AS n FROM source GROUP BY t ORDER BY t"
        number = 0
        waiting: list[tuple[Floats, Ints]] = []
        size = 0
        for chunk in table.chunks(query):
            for start, n in zip(chunk["t"].tolist(), chunk["n"].tolist(), strict=True):
                rng = np.random.default_rng([seed, number])
                number += 1
                # Cut, not rounded, to microseconds: an arrival never leaves its bin.
                inside = np.floor(np.sort(rng.random(n)) * self.bin_seconds * 1e6) / 1e6
                waiting.append((start + inside, rng.integers(0, len(self.lengths[0]), n)))
                size += n
                if size >= CHUNK_REQUESTS:
                    yield self._with_lengths(waiting)
                    waiting, size = [], 0
        if size:
            yield self._with_lengths(waiting)

    def _with_lengths(self, bins: list[tuple[Floats, Ints]]) -> tuple[Floats, Ints, Ints]:
        assert self.lengths is not None
        drawn = np.concatenate([index for _, index in bins])
        return np.concatenate([times for times, _ in bins]), self.lengths[0][drawn], self.lengths[1][drawn]


def completed_records(
    trace: Trace, *, model: str, pool: str, seed: int = 7, start_at: float | None = None, limit: int | None = None
) -> Iterator[list[CompletedRecord]]:
    """Yield the trace as encoded events, in order of completion, chunk by chunk; memory is bounded by a chunk.

    ``start_at`` moves the first arrival of the trace to that instant (epoch seconds); None keeps its own dates.
    ``limit`` ends after so many requests. Event ids depend on the trace's name, the arguments and the request's number
    alone: a second replay is a replay of the same events.

    Raises:
        InputError: the trace's times count from its own beginning and no ``start_at`` is given; or the file is bad.
    """
    if start_at is None and trace.is_relative:
        raise InputError(f"{trace.path.name} has times relative to its beginning; say when it starts (--start-at)")
    shift = 0.0 if start_at is None else start_at - trace.first_at
    identity = f"{trace.path.name}|{model}|{pool}|{seed}|{shift:.6f}"
    prefix = f"{trace.path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"
    noise = np.random.default_rng([seed, 1])
    running: list[CompletedRecord] = []
    total = 0
    for times, inputs, outputs in trace.arrivals(seed):
        take = len(times) if limit is None else min(len(times), limit - total)
        arrived = np.round(times[:take] + shift, 6)
        draws = np.exp(LATENCY_SIGMA * noise.standard_normal((2, len(times)))[:, :take])
        ttft = (FIRST_TOKEN_SECONDS + inputs[:take] / PREFILL_TOKENS_PER_SECOND) * draws[0]
        tpot = OUTPUT_TOKEN_SECONDS * draws[1]
        e2e = ttft + tpot * np.maximum(outputs[:take] - 1, 0)
        rows = zip(
            arrived.tolist(),
            np.round(e2e, 6).tolist(),
            np.round(ttft, 6).tolist(),
            np.round(tpot, 7).tolist(),
            inputs[:take].tolist(),
            outputs[:take].tolist(),
            strict=True,
        )
        for number, (arrival, duration, first, per_token, tokens_in, tokens_out) in enumerate(rows, total):
            completed = round(arrival + duration, 6)
            event = RequestEvent(
                event_id=f"{prefix}-{number}",
                model=model,
                pool=pool,
                input_tokens=tokens_in,
                output_tokens=tokens_out,
                status="ok",
                arrived_at=arrival,
                completed_at=completed,
                e2e_seconds=duration,
                ttft_seconds=first if tokens_out else None,
                tpot_seconds=per_token if tokens_out > 1 else None,
                source="replay",
            )
            running.append(CompletedRecord(completed, arrival, _encode(event), tokens_in, tokens_out))
        total += take
        running.sort(key=_completion)
        if limit is not None and total >= limit:
            break
        # Whatever comes later in the trace arrives, and so completes, after the newest arrival seen.
        done = _bisect(running, float(arrived[-1])) if take else 0
        if done:
            yield running[:done]
            running = running[done:]
    if running:
        yield running


def _completion(record: CompletedRecord) -> float:
    return record.completed_at


def _bisect(records: list[CompletedRecord], time: float) -> int:
    """How many of the records (ordered by completion) complete before ``time``."""
    low, high = 0, len(records)
    while low < high:
        middle = (low + high) // 2
        if records[middle].completed_at < time:
            low = middle + 1
        else:
            high = middle
    return low


def _first_of(table: Table, names: tuple[str, ...], what: str) -> str:
    found = next((name for name in names if name in table.types), None)
    if found is None:
        raise InputError(f"{table.name} has no {what} column (looked for {', '.join(names)}); {table.shown_columns()}")
    return found
