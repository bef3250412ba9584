"""From the stage of a load test to an observed point, and whether the stage reached a steady state.

An open loop that offers more than the server carries never settles: its queue, and TTFT with it, grows with the length
of the test. Such a stage keeps its TPOT (that of a full batch) and loses its TTFT. What decides is what the report
says, never a slack that grows with the server's own slowness:

- requests without an answer when the test was cut: more than 10 % of all in an open loop (the queue, or a test too
  short to tell), more than were answered in a closed loop;
- where everything was answered: the completed rate fell short of the offered one *and* the spread of TTFT is that of a
  queue that grew while requests were sent. A queue that grows steadily by W seconds spreads TTFT evenly over W, so each
  of twice the median (above the minimum), (p90 - p10) / 0.8 and √12 standard deviations estimates W; the smallest of
  those that the report has counts, so that a few slow requests are not taken for a queue. More than 5 % of the sending
  time is overload by more than 5 %. A Poisson run that ended early by chance has no such queue.
"""

from __future__ import annotations

import math

from sizing.calibration.loadtests.cross_checks import checked
from sizing.calibration.loadtests.types import LoadKind, Stage
from sizing.calibration.measurement import ObservedPoint, check_point
from sizing.errors import InvalidInput

__all__ = ["measured_point", "queue_growth_seconds", "unsettled"]

#: Largest share of an open loop's requests that may lack an answer at the end of a settled test.
MAX_INCOMPLETE_SHARE = 0.10
#: An open loop that completes less than this share of what it offers may be overloaded …
SETTLED_SHARE = 0.95
#: … and is, when its queue grew by more than this share of the sending time.
MAX_QUEUE_GROWTH = 0.05
#: A loop with a rate and a limit on requests in flight that keeps this share of the limit busy is bound by the limit.
_BOUND_SHARE = 0.9
#: No engine makes 10,000 tokens a second for one request: a report of less has its units wrong.
_LEAST_TPOT_SECONDS = 1e-4


def queue_growth_seconds(stage: Stage) -> float | None:
    """Return by how many seconds the wait for a first token grew during the stage; None: the report does not say."""
    mean, median = stage.ttft_seconds
    served = _growth(stage.ttft_quantiles, median if median is not None else mean, stage.ttft_deviation_seconds)
    sent = _growth(stage.delay_quantiles, dict(stage.delay_quantiles).get(0.5), None)
    known = [growth for growth in (served, sent) if growth is not None]
    return max(known) if known else None


def _growth(quantiles: tuple[tuple[float, float], ...], median: float | None, deviation: float | None) -> float | None:
    levels = dict(quantiles)
    estimates = []
    if median is not None:
        estimates.append(2.0 * max(median - max(levels.get(0.0, 0.0), 0.0), 0.0))
    if 0.1 in levels and 0.9 in levels:
        estimates.append(max(levels[0.9] - levels[0.1], 0.0) / 0.8)
    if deviation is not None:
        estimates.append(math.sqrt(12.0) * deviation)
    return min(estimates) if estimates else None


def unsettled(stage: Stage, kind: LoadKind) -> str | None:
    """Return why a stage reached no steady state, None where it did as far as the report says."""
    answered = stage.completed
    if stage.incomplete > 0 and answered is not None:
        total = answered + stage.incomplete
        if kind is LoadKind.CLOSED:
            if stage.incomplete > answered:
                return f"{stage.incomplete:.0f} of {total:.0f} requests were unfinished when the test ended"
        elif stage.incomplete > MAX_INCOMPLETE_SHARE * total:
            return f"{stage.incomplete:.0f} of {total:.0f} requests were unfinished when the test ended"
    if kind is LoadKind.CLOSED or stage.offered_rate is None or stage.rate is None:
        return None
    if stage.rate >= SETTLED_SHARE * stage.offered_rate:
        return None
    if answered is None:
        # Without counts, what was offered and not completed is taken as unfinished.
        if stage.rate >= (1.0 - MAX_INCOMPLETE_SHARE) * stage.offered_rate:
            return None
        return f"{stage.rate:.3g} requests/s were completed of {stage.offered_rate:.3g} offered"
    growth = queue_growth_seconds(stage)
    sending = _sending_seconds(stage)
    if growth is None or sending is None or growth <= MAX_QUEUE_GROWTH * sending:
        return None
    return (
        f"{stage.rate:.3g} requests/s were completed of {stage.offered_rate:.3g} offered, and the wait for a first "
        f"token grew by about {growth:.2g} s in {sending:.3g} s of sending"
    )


def _sending_seconds(stage: Stage) -> float | None:
    """Return how long requests were sent: as reported, else the requests over their rate, else the whole test."""
    if stage.sending_seconds is not None:
        return stage.sending_seconds
    sent = None if stage.completed is None else stage.completed + stage.incomplete + stage.failed
    if sent and stage.offered_rate is not None:
        return sent / stage.offered_rate
    return stage.duration_seconds


def measured_point(
    stage: Stage, *, replicas: int = 1, kind: LoadKind | None = None, cached_share: float | None = None
) -> tuple[ObservedPoint, tuple[str, ...]]:
    """Return the point of one stage and what to know about it; loads are divided by ``replicas``.

    ``kind`` and ``cached_share``, where given, win over what the report says.

    Raises:
        InvalidInput: the stage has no usable measurement, or contradicts itself; the text says which is missing or how.
    """
    stage, converted = checked(stage)
    notes = [*stage.notes, *converted]
    if stage.input_tokens is None or stage.output_tokens is None or stage.output_tokens <= 1:
        raise InvalidInput(f"{stage.name}: no prompt and output lengths above one token")
    decoded = stage.output_tokens - 1.0
    first, total = _latencies(stage, decoded)
    if stage.rate is None and stage.concurrency is None and stage.concurrency_limit is None:
        raise InvalidInput(f"{stage.name}: neither a completed rate nor a concurrency")
    rate = stage.rate
    # Little's law: reports sample concurrency, if they have it at all.
    concurrency = rate * total if rate is not None else stage.concurrency
    kind = kind or _kind(stage, concurrency)
    if kind is None:
        kind = LoadKind.OPEN
        notes.append(
            f"{stage.name}: the report does not say whether clients waited for answers (closed loop) or sent at a rate "
            "(open loop); taken as open, --load closed says otherwise"
        )
    if concurrency is None and kind is LoadKind.CLOSED:
        concurrency = stage.concurrency_limit
    if concurrency is None:
        raise InvalidInput(f"{stage.name}: neither a completed rate nor a concurrency")
    reason = unsettled(stage, kind)
    if reason is not None:
        notes.append(f"{stage.name}: not settled, so its TTFT is left out: {reason}")
    elif kind is LoadKind.OPEN and stage.sending_seconds is not None and stage.completed and not stage.incomplete:
        # Everything was answered: the load is what was sent while requests were sent, without the tail of the test.
        rate = max(stage.completed / stage.sending_seconds, rate or 0.0)
        concurrency = rate * total
    if stage.failed > 0 and stage.completed is not None and stage.failed > 0.05 * (stage.completed + stage.failed):
        notes.append(f"{stage.name}: {stage.failed:.0f} requests failed; only the others count")
    if stage.speculative:
        notes.append(f"{stage.name}: measured with speculative decoding; what is learned holds for such servers alone")
    share = cached_share if cached_share is not None else stage.cached_share
    tpot = stage.tpot_seconds if stage.tpot_seconds is not None else (total - first) / decoded
    if tpot < _LEAST_TPOT_SECONDS:
        raise InvalidInput(f"{stage.name}: a TPOT of {tpot * 1e3:.2g} ms is implausible; are its units right?")
    point = ObservedPoint(
        input_tokens=stage.input_tokens,
        output_tokens=stage.output_tokens,
        tpot_seconds=tpot,
        ttft_seconds=None if reason is not None else first,
        requests_per_second=None if rate is None else rate / replicas,
        concurrency=concurrency / replicas,
        closed_loop=kind is LoadKind.CLOSED,
        cached_share=share or 0.0,
    )
    check_point(point)
    return point, tuple(notes)


def _latencies(stage: Stage, decoded: float) -> tuple[float, float]:
    """Return TTFT and E2E: means, else medians where a mean makes no sense (one lost time stamp spoils it)."""
    for first, total in zip(stage.ttft_seconds, stage.e2e_seconds, strict=True):
        if first is not None and total is not None and first < total:
            return first, total
    if stage.tpot_seconds is not None:
        for first in stage.ttft_seconds:
            if first is not None:
                return first, first + stage.tpot_seconds * decoded
    raise InvalidInput(f"{stage.name}: no end-to-end latency above its time to first token")


def _kind(stage: Stage, concurrency: float | None) -> LoadKind | None:
    limit = stage.concurrency_limit
    if stage.kind is LoadKind.OPEN and limit is not None and concurrency is not None:
        # Requests wait in the client once the limit is reached: then answers set the pace.
        return LoadKind.CLOSED if concurrency >= _BOUND_SHARE * limit else LoadKind.OPEN
    return stage.kind
