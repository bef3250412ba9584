"""Figures of one stage that bear on each other: what contradicts itself is converted, with a note, or refused.

A report that was edited, converted or written by an odd release may have a figure in another unit than its name says.
Three identities hold for any load test, whatever the server does:

- completed requests = completed rate · duration;
- E2E = TTFT + TPOT · (output tokens - 1), up to the spread of lengths;
- requests in flight = completed rate · E2E (Little's law), and no more than clients keep in flight.

A figure that is off by the ratio of two units (60, 1000), and fits once converted, is converted. One that is off by
more than chance allows and by no such ratio makes the stage unusable: nobody can say which of the figures is wrong.
"""

from __future__ import annotations

from dataclasses import replace

from sizing.calibration.loadtests.fields import first, scaled
from sizing.calibration.loadtests.types import Stage
from sizing.errors import InvalidInput

__all__ = ["checked"]

#: Tools count and time a little differently (warm-up, failures, the last answers): twice as much is beyond that.
_RATE_SLACK = 2.0
#: A mean of ratios differs from a ratio of means where lengths vary: five times as much is beyond that.
_LATENCY_SLACK = 5.0
_PER_MINUTE = (40.0, 90.0)
_THOUSANDFOLD = (100.0, 10_000.0)
#: No server on a network answers a first token sooner.
_LEAST_TTFT_SECONDS = 5e-4
#: TTFT that may be seconds under the name of milliseconds, and how close a thousand times it must come to what E2E
#: leaves.
_SMALL_TTFT_SECONDS = 0.02
_CLOSE = 2.0
#: What E2E leaves for TTFT says something where it is more than the noise of TPOT.
_LEAST_REST = 0.02
#: A closed loop keeps its limit busy on average once it has sent so many requests per client.
_LONG_LOOP = 4.0


def checked(stage: Stage) -> tuple[Stage, tuple[str, ...]]:
    """Return the stage with every figure in the unit that the others ask for, and what was converted and why.

    Raises:
        InvalidInput: figures contradict each other, or cannot be; the text says which.
    """
    stage, rate_notes = _checked_rate(stage)
    stage, unit_notes = _checked_seconds(stage)
    stage, ttft_notes = _checked_ttft(stage)
    _check_sum(stage)
    return stage, (*rate_notes, *unit_notes, *ttft_notes)


def _checked_rate(stage: Stage) -> tuple[Stage, tuple[str, ...]]:
    """The rate against the requests and the duration."""
    rate, seconds, requests = stage.rate, stage.duration_seconds, stage.completed
    if not rate or not seconds or not requests:
        return stage, ()
    ratio = rate * seconds / requests
    most = 1.0 + (stage.incomplete + stage.failed) / requests  # some tools count what failed or was cut off
    if 1 / _RATE_SLACK <= ratio <= _RATE_SLACK * most:
        return stage, ()
    if _PER_MINUTE[0] < ratio < _PER_MINUTE[1]:
        note = (
            f"{stage.name}: the rate of {rate:.4g} is read as per minute: {requests:.0f} requests were completed in "
            f"{seconds:.4g} s"
        )
        return replace(stage, rate=rate / 60.0), (note,)
    raise InvalidInput(
        f"{stage.name}: {rate:.4g} requests/s for {seconds:.4g} s are {rate * seconds:.4g} requests, but "
        f"{requests:.0f} were completed; are its units right?"
    )


def _checked_seconds(stage: Stage) -> tuple[Stage, tuple[str, ...]]:
    """All latencies against the requests in flight."""
    total, limit = _total(stage), stage.concurrency_limit
    if total is None or not limit or not stage.rate:
        return stage, ()
    ratio = stage.rate * total / limit
    if ratio <= _LATENCY_SLACK:
        return stage, ()
    if _THOUSANDFOLD[0] < ratio < _THOUSANDFOLD[1]:
        note = (
            f"{stage.name}: its latencies are read as milliseconds: as seconds {stage.rate * total:.4g} requests would "
            f"have been in flight, and {limit:.0f} were at most"
        )
        return _in_milliseconds(stage), (note,)
    raise InvalidInput(
        f"{stage.name}: {stage.rate:.4g} requests/s that take {total:.4g} s each are {stage.rate * total:.4g} in "
        f"flight, but {limit:.0f} were at most; are its units right?"
    )


def _in_milliseconds(stage: Stage) -> Stage:
    """The stage with latencies that are milliseconds, in seconds."""
    mean, median = stage.e2e_seconds
    return replace(
        _with_ttft_times(stage, 1e-3),
        e2e_seconds=(scaled(mean, 1e-3), scaled(median, 1e-3)),
        tpot_seconds=scaled(stage.tpot_seconds, 1e-3),
    )


def _with_ttft_times(stage: Stage, factor: float) -> Stage:
    mean, median = stage.ttft_seconds
    return replace(
        stage,
        ttft_seconds=(scaled(mean, factor), scaled(median, factor)),
        ttft_quantiles=tuple((level, factor * value) for level, value in stage.ttft_quantiles),
        ttft_deviation_seconds=scaled(stage.ttft_deviation_seconds, factor),
    )


def _checked_ttft(stage: Stage) -> tuple[Stage, tuple[str, ...]]:
    """TTFT against what E2E, or the requests in flight, leave for it beside the output."""
    ttft, decode = _ttft(stage), _decode(stage)
    if ttft is None or ttft >= _SMALL_TTFT_SECONDS:
        return stage, ()
    total = first(*stage.e2e_seconds)
    source = "the end-to-end latency leaves"
    if total is None:
        total, source = _total_by_littles_law(stage), "the requests in flight leave"
    if total is not None and decode is not None:
        rest = total - decode
        if rest > _LEAST_REST * total and 1 / _CLOSE < 1e3 * ttft / rest < _CLOSE:
            note = f"{stage.name}: TTFT is read as {1e3 * ttft:.3g} s, not ms: {source} {rest:.3g} s beside the output"
            return _with_ttft_times(stage, 1e3), (note,)
    if ttft < _LEAST_TTFT_SECONDS:
        raise InvalidInput(f"{stage.name}: a TTFT of {1e3 * ttft:.2g} ms is implausible; are its units right?")
    return stage, ()


def _total_by_littles_law(stage: Stage) -> float | None:
    """E2E of a closed loop that ran long enough to keep all its clients busy."""
    limit = stage.concurrency_limit
    if not stage.rate or not limit or stage.completed is None or stage.completed < _LONG_LOOP * limit:
        return None
    return limit / stage.rate


def _check_sum(stage: Stage) -> None:
    """E2E against TTFT and TPOT, all three of the tool."""
    ttft, decode = _ttft(stage), _decode(stage)
    total = first(*stage.e2e_seconds)
    if ttft is None or decode is None or total is None:
        return
    if not 1 / _LATENCY_SLACK <= (ttft + decode) / total <= _LATENCY_SLACK:
        raise InvalidInput(
            f"{stage.name}: TTFT and the output tokens at its TPOT take {ttft + decode:.3g} s, but the end-to-end "
            f"latency is {total:.3g} s; are its units right?"
        )


def _ttft(stage: Stage) -> float | None:
    return first(*stage.ttft_seconds)


def _decode(stage: Stage) -> float | None:
    """Seconds of the output after its first token, by the tool's own TPOT."""
    if stage.tpot_seconds is None or stage.output_tokens is None or stage.output_tokens <= 1:
        return None
    return stage.tpot_seconds * (stage.output_tokens - 1.0)


def _total(stage: Stage) -> float | None:
    """E2E: the tool's own, else TTFT and the output."""
    total = first(*stage.e2e_seconds)
    if total is not None:
        return total
    ttft, decode = _ttft(stage), _decode(stage)
    return None if ttft is None or decode is None else ttft + decode
