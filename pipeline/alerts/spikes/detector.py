"""Unannounced spikes in closed windows, and the chance that forecast demand exceeds capacity. Pure, no I/O."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from enum import StrEnum
from itertools import accumulate
from typing import NamedTuple

from pipeline.alerts.feedback import Verdict
from pipeline.alerts.spikes.alert_budget import LEAST_THRESHOLD, AlertBudget
from pipeline.alerts.spikes.episode import Episode
from pipeline.alerts.spikes.evidence import Evidence
from pipeline.alerts.spikes.extreme_tail import ExtremeTail
from pipeline.alerts.spikes.foresight import Foresight
from pipeline.alerts.spikes.references import Scorer
from pipeline.alerts.spikes.returns import Returns
from pipeline.forecast.types import LEVELS, Forecast

__all__ = ["Direction", "Kind", "SpikeDetector", "SpikeState", "forecast_breach", "rest_after_alert"]

_LONG_SECONDS = 3600.0
_SHORT_SECONDS = 300.0
_RECENT = 60
_MAX_PROBABILITY = 0.5
_MAX_SCORE = 1e6
#: Larger values count as this one, so that they are finite in single precision and their squares in double precision.
_MOST_VALUE = 1e30
_WARM_WINDOWS = 8
#: A value within this factor of what was foretold was foretold.
_FORESEEN_SLACK = 1.25
#: A sudden spike needs evidence that ordinary windows reach at most so many times as often as alerts are wanted.
_SUPPORT = 50.0
#: After an alert nothing is news for this share of the wanted time between false alerts, after one about a sudden spike
#: until the long window has passed, too ...
_REST_SHARE = 0.04
#: ... unless its score exceeds that of the last alert by this factor.
_LOUDER = 1.2


def rest_after_alert(false_alerts_per_day: float) -> float:
    """Seconds for which an alert is the last word, at a wanted rate of false alerts."""
    return _REST_SHARE * 86_400.0 / false_alerts_per_day


class Direction(StrEnum):
    """Which way a value must go to be a surprise."""

    UP = "up"
    DOWN = "down"
    BOTH = "both"


class Kind(StrEnum):
    """What counts as a surprise: sudden spikes, or changes of any kind (of shape, slow drifts, plateaus), too."""

    SPIKE = "spike"
    ANY = "any"


class SpikeState(NamedTuple):
    """What one window says about spikes.

    ``news`` says that it is worth telling: it begins an episode, or is much worse than what was told. ``score`` is the
    surprise over what it has to exceed: above 1 is one (None: a gap, or too little history). ``p_value`` is the
    estimated chance of such a score in ordinary traffic. ``ratio`` is the value over ``level``, the median of the
    recent windows (during an episode: of those before its onset). Times are epoch seconds: ``started_at`` is the end of
    the window that raised the running or just ended episode, ``ended_at`` is set in the one step that ends it. ``peak``
    is the value of the episode that is farthest from ``level``. ``falls``: the running or just ended episode is a fall.
    """

    at: float
    active: bool
    began: bool = False
    news: bool = False
    score: float | None = None
    p_value: float | None = None
    level: float | None = None
    ratio: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    peak: float | None = None
    falls: bool = False


class SpikeDetector:
    """Finds changes that the forecast did not expect, at a wanted rate of false alerts.

    A window is compared with several references (``spike_score``), each in units of its own recent scale; each score
    has an extreme-value tail (``spike_tail``) that says which level ordinary scores exceed ``false_alerts_per_day``
    over the root of the number of references times a day. One reference that calls a surprise suffices: they depend on
    each other, and on labelled series their union stays below the wanted rate (docs/spikes.md).

    Forecasts sharpen the references where there are some, and silence one thing only: a value no farther from the level
    than what they told of it 15 minutes before (``spike_foresight``), such as a rise that comes daily or was announced.
    A band that is wide after a burst silences nothing.

    ``Kind.ANY`` also joins several measures into one chance (``spike_evidence``). A chance as small as the wanted rate
    is a surprise by itself, and a reference that calls one needs a chance at most 50 times as great: what has come
    before as often is none.

    After an alert only a surprise with a score 1.2 times as great is news, for 4 % of the wanted time between false
    alerts; without ``Kind.ANY`` until the long window has passed, too, which knows of it then. A burst in several
    pieces takes one alert of the budget, and one that grows is told again.

    Rises and falls share the scales, the tails and the budget, so that their alerts come to the wanted rate together. A
    sudden one is judged by the scores of its own direction and rests after alerts of its own direction: what collapses
    after a spike is told. The way back to the level before (``spike_returns``) is no news in either direction.

    Two windows: the long one (an hour of values for the level, up to 720 values for the scales) says that it is a
    spike, the short one (5 minutes, 1/12 of the hour) that it still is one. An episode ends when the whole short window
    lies near the level before the onset, or after an hour, when the new level is the level. A gap is neither a spike
    nor the end of one, and the first value after it is not a step from the last value before it.

    Args:
        false_alerts_per_day: wanted rate in ordinary traffic, positive.
        grain_seconds: width of a window, positive.
        min_ratio: smallest value over recent level that is worth an alert (and 1 over it for falls).
        direction: rises, falls, or both.
        season_seconds: length of a season that no forecast knows of; None: none.
        kind: sudden spikes, or changes of any kind; the latter costs about twice the time and 150 KB of state.
        rest_seconds: after an alert nothing is news for so long; None: ``rest_after_alert(false_alerts_per_day)``. At
            least the long window where sudden spikes are looked for.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        false_alerts_per_day: float,
        grain_seconds: float,
        min_ratio: float = 1.25,
        direction: Direction = Direction.UP,
        season_seconds: float | None = None,
        kind: Kind = Kind.SPIKE,
        rest_seconds: float | None = None,
    ) -> None:
        for name, number in (("false_alerts_per_day", false_alerts_per_day), ("grain_seconds", grain_seconds)):
            if not (math.isfinite(number) and number > 0.0):
                raise ValueError(f"{name} must be positive, not {number}")
        if not (math.isfinite(min_ratio) and min_ratio >= 1.0):
            raise ValueError(f"min_ratio must be at least 1, not {min_ratio}")
        self.min_ratio = min_ratio
        self.direction = Direction(direction)
        probability = min(_MAX_PROBABILITY, false_alerts_per_day * grain_seconds / 86_400.0)
        season = None if season_seconds is None else round(season_seconds / grain_seconds)
        self._scorer = Scorer(season)
        references = 3 if season is None else 4
        self._foresight = Foresight(grain_seconds)
        self._long = max(_WARM_WINDOWS, round(_LONG_SECONDS / grain_seconds))
        self._short = max(1, round(_SHORT_SECONDS / grain_seconds))
        self._evidence: Evidence | None = None
        self._rest_seconds = rest_after_alert(false_alerts_per_day) if rest_seconds is None else rest_seconds
        if Kind(kind) is Kind.ANY:
            self._evidence = Evidence(grain_seconds)
        else:
            self._rest_seconds = max(self._long * grain_seconds, self._rest_seconds)
        # Where falls rest for themselves: else all changes share a rest.
        self._apart = self.direction is Direction.BOTH and self._evidence is None
        directions = 2 if self._apart else 1
        self._budget = AlertBudget(probability, self._rest_seconds, _LOUDER, directions)
        self._odd = -math.log(probability)
        self._support = -math.log(min(_MAX_PROBABILITY, _SUPPORT * probability))
        self._tails = tuple(ExtremeTail(probability / math.sqrt(references)) for _ in range(references))
        self._recent = array("d")
        self._episode: Episode | None = None
        # Of rises and of falls.
        self._quiet_until = [-math.inf, -math.inf]
        self._loudest = [0.0, 0.0]
        self._returns = Returns(_RECENT * grain_seconds)

    def observe(self, end: float, value: float | None, forecasts: Sequence[Forecast] = ()) -> SpikeState:
        """Judge the window that ended at ``end``.

        ``forecasts`` are those issued one step before, ascending in horizon. A value that is None, not finite or
        negative is a gap (negative values are allowed where falls are looked for).
        """
        self._foresight.learn(forecasts)
        foretold = self._foresight.of(end)
        if value is None or not math.isfinite(value) or (value < 0.0 and self.direction is Direction.UP):
            self._scorer.miss()
            if self._evidence is not None:
                self._evidence.miss()
            episode = self._episode
            if episode is None:
                return SpikeState(end, False)
            return SpikeState(end, True, started_at=episode.started_at, falls=episode.falls)
        value = max(-_MOST_VALUE, min(_MOST_VALUE, value))
        if not self._scorer.ready():
            self._scorer.warm_up(value)
            self._remember(value)
            return SpikeState(end, False)
        level = _median(self._recent)
        falls = bool(value < level)
        one_step = next((f.quantiles for f in forecasts if f.target_at == end), None)
        raw, p_value, mean = self._judge(end, value, one_step, foretold, falls=falls)
        score = raw / self._budget.threshold
        worth = (
            raw > LEAST_THRESHOLD
            and self._is_worth(value, mean if level == 0.0 and self._evidence is None else level, falls=falls)
            and not self._was_foretold(value, foretold, falls=falls)
            and not (self._evidence is None and self._returns.excuse(end, value, self.min_ratio, falls=falls))
        )
        news = worth and score > 1.0 and self._is_news(end, score, falls=falls)
        episode = self._episode
        state = self._advance(end, value, level, news, falls=falls)
        if state.began:
            episode = self._episode
        self._budget.learn(end, raw if worth else 0.0, told=news, second=falls and self._apart)
        self._remember(value)
        reference = level if episode is None else episode.level
        return SpikeState(
            at=end,
            active=state.active,
            began=state.began,
            news=news,
            score=score,
            p_value=p_value,
            level=reference,
            ratio=value / reference if reference > 0.0 else None,
            started_at=state.started_at,
            ended_at=state.ended_at,
            peak=state.peak,
            falls=episode is not None and episode.falls,
        )

    def mark(self, raised_at: float, verdict: Verdict) -> bool:
        """Take what an operator says of the alert raised by the window that ended at ``raised_at``: it moves the
        threshold. Returns whether there is such an alert.
        """
        return self._budget.mark(raised_at, verdict)

    def _remember(self, value: float) -> None:
        self._recent.append(value)
        del self._recent[:-_RECENT]

    def _judge(
        self, end: float, value: float, one_step: Sequence[float] | None, foretold: float | None, *, falls: bool
    ) -> tuple[float, float, float]:
        """Return the greatest score over its threshold, the smallest chance and the mean of the long window; learn.

        Where both directions are looked for, a sudden spike is judged by the scores of its own direction.
        """
        found = self._scorer.score(value, one_step, foretold)
        best, p_value = 0.0, 1.0
        for tail, signed in zip(self._tails, (found.level, found.step, found.shift, found.season), strict=False):
            if signed is None:
                continue
            score = min(_MAX_SCORE, self._towards(signed))
            if not self._apart or (signed < 0.0) is falls:
                best = max(best, score / tail.threshold)
                p_value = min(p_value, tail.chance(score))
            tail.learn(score)
        if self._evidence is None:
            return best, p_value, found.mean
        chance = self._evidence.observe(end, value, found.mean, found.spread)
        if chance is None:
            return best, p_value, found.mean
        rarity = -math.log(chance)
        if rarity < self._support:
            best = min(best, rarity / self._support)
        return max(best, rarity / self._odd), chance, found.mean

    def _towards(self, signed: float) -> float:
        if self.direction is Direction.BOTH:
            return abs(signed)
        return max(0.0, signed if self.direction is Direction.UP else -signed)

    def _is_worth(self, value: float, level: float, *, falls: bool) -> bool:
        """Whether the value is far enough from the level, on the right side; a sudden rise of a series that is mostly
        silent is measured by its mean.
        """
        if falls:
            far = value <= level - (1.0 - 1.0 / self.min_ratio) * abs(level)
            return far and self.direction is not Direction.UP
        # In a silent series no change is far enough by its ratio.
        far = value >= level + (self.min_ratio - 1.0) * abs(level) and (value > level or self.min_ratio == 1.0)
        return far and self.direction is not Direction.DOWN

    def _is_news(self, end: float, score: float, *, falls: bool) -> bool:
        """Whether a surprise is worth telling: the last one of its direction is long ago, or this one is greater than
        all since.
        """
        place = int(falls and self._apart)
        rested = end >= self._quiet_until[place]
        if not rested and score <= _LOUDER * self._loudest[place]:
            return False
        self._loudest[place] = score
        self._quiet_until[place] = end + self._rest_seconds
        return True

    def _was_foretold(self, value: float, foretold: float | None, *, falls: bool) -> bool:
        """Whether the forecast, a while ago, told of a change from the level as far as this one."""
        if foretold is None:
            return False
        if not falls:
            return value <= foretold * _FORESEEN_SLACK
        return value >= foretold / _FORESEEN_SLACK

    def _advance(self, end: float, value: float, level: float, news: bool, *, falls: bool) -> SpikeState:
        episode = self._episode
        if episode is None or (news and self._apart and falls is not episode.falls):
            if not news:
                return SpikeState(end, False)
            self._episode = Episode.begin(end, value, level)
            self._returns.note(end, level, falls=falls)
            return SpikeState(end, True, began=True, started_at=end, peak=value)
        self._returns.note(end, episode.level, falls=episode.falls)
        active = episode.goes_on(value, self._short, self._long)
        if not active:
            self._episode = None
        ended_at = None if active else end
        return SpikeState(end, active, started_at=episode.started_at, ended_at=ended_at, peak=episode.peak)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else 0.5 * (ordered[middle - 1] + ordered[middle])


def forecast_breach(quantiles: Sequence[float], levels: Sequence[float], capacity: float) -> float:
    """P(demand > ``capacity``) from forecast ``quantiles`` at ascending ``levels``; linear between, exponential beyond.

    >>> round(forecast_breach((1.0, 2.0, 3.0), (0.1, 0.5, 0.9), 2.5), 3)
    0.3

    Raises:
        ValueError: fewer than two quantiles, lengths that differ, levels not ascending in (0, 1), NaN.
    """
    if len(quantiles) != len(levels) or len(levels) < 2:
        raise ValueError(f"{len(quantiles)} quantiles at {len(levels)} levels; the same number, at least 2, is needed")
    if levels is not LEVELS and not all(a < b for a, b in zip((0.0, *levels), (*levels, 1.0), strict=True)):
        raise ValueError(f"levels must ascend within (0, 1), not {tuple(levels)}")
    if math.isnan(capacity) or not all(map(math.isfinite, quantiles)):
        raise ValueError("capacity and quantiles must be numbers")
    values = list(accumulate(quantiles, max))
    if capacity < 0.0:
        return 1.0
    if capacity >= values[-1]:
        return _beyond(capacity - values[-1], values[-1] - values[-2], 1 - levels[-2], 1 - levels[-1])
    if capacity < values[0]:
        return 1.0 - _beyond(values[0] - capacity, values[1] - values[0], levels[1], levels[0])
    at = bisect_right(values, capacity)
    low, high = values[at - 1], values[at]
    share = (capacity - low) / (high - low)
    return 1.0 - (levels[at - 1] + share * (levels[at] - levels[at - 1]))


def _beyond(distance: float, width: float, inner: float, outer: float) -> float:
    """Tail probability ``distance`` beyond the outermost quantile, log-linear through the two outermost ones."""
    if width <= 0.0:
        return outer if distance <= 0.0 else 0.0
    return outer * math.exp(-distance / width * math.log(inner / outer))
