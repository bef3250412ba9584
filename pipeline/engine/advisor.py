"""The engine: closed windows in, forecasts, recommendations and alerts out.

The only way from windows to advice. Live control, restart, replay and backtest all call ``Advisor.step``; it reads no
clock and does no I/O, so the same windows give the same advice, bit for bit.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from pipeline.alerts.feedback import AlertFeedback, feedback_in, is_feedback
from pipeline.alerts.rule_evaluation import RuleSet
from pipeline.alerts.rule_registry import alert_rules
from pipeline.config.settings import Settings
from pipeline.engine.decisions.together import Stepping, step_together
from pipeline.engine.pool_advisor import PoolAdvisor
from pipeline.engine.pool_outcome import PoolOutcome
from pipeline.engine.revision import saturated
from pipeline.engine.types import Reading, RevisionInput, StepInput, StepOutput
from pipeline.errors import CodecError
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.calendar.known import CalendarChange, KnownCalendar
from pipeline.forecast.exogenous.known import KnownExogenous
from pipeline.forecast.exogenous.rows import ExogenousRow
from pipeline.packing import pack, unpack
from pipeline.windows.types import ClosedWindow, PoolKey
from pipeline.windows.usage import with_usage_of_all
from sizing.catalog import Catalog
from sizing.errors import SizingError
from sizing.types import Recommendation

__all__ = ["Advisor", "known_exogenous"]

#: Bumped whenever a snapshot of an older version cannot be continued bit for bit.
STATE_VERSION = 42

#: A pool that no step has named for so long, in seconds of event time, is forgotten; it begins anew if it comes back.
FORGET_SECONDS = 7 * 86_400


class Advisor:
    """All pools of one controller. ``catalog`` resolves profiles and accelerators; None: the built-in one."""

    def __init__(self, settings: Settings, catalog: Catalog | None = None) -> None:
        self._settings = settings
        self.catalog = catalog
        self._config_hash = settings.config_hash()
        self._equipment = _equipment(settings, catalog or Catalog())
        self._configured = {PoolKey(p.model, p.pool): p for p in settings.pools}
        #: The alert rules in force.
        self.rules = RuleSet(alert_rules(settings.alerts.rules))
        self._pools: dict[PoolKey, PoolAdvisor] = {}
        self._named_at: dict[PoolKey, int] = {}  # the newest step of each pool
        self._ahead: dict[PoolKey, int] = {}  # the last step seen, of pools restored from a later one
        self.calendar = KnownCalendar()
        self.exogenous = known_exogenous(settings)
        self._reach = float(max(settings.forecast.horizons_seconds))
        self.as_of: int | None = None
        self._begun = 0  # the step under way
        self._under_way = False
        self._revised_at: int | None = None  # the newest revision, since the last step or since this object was made
        self._near: Sequence[CalendarRecord] = ()
        self._marks: Sequence[AlertFeedback] = ()  # of the step under way

    def step(self, inputs: StepInput) -> StepOutput:
        """Learn the windows that closed at ``inputs.as_of`` and say what follows from them.

        Steps must come in order of time; pools may come and go, and are forgotten a week after they went. The same as
        ``begin``, ``advise`` with all windows, and ``finish``.

        Raises:
            ValueError: the step is not after the last one, or a window does not end at ``as_of``.
        """
        self.begin(inputs.as_of, inputs.calendar, inputs.exogenous)
        output = self.advise(inputs.windows)
        self.finish()
        return replace(output, calendar=inputs.calendar, exogenous=inputs.exogenous)

    def begin(
        self, as_of: int, calendar: Sequence[CalendarChange] = (), exogenous: Sequence[ExogenousRow] = ()
    ) -> None:
        """Begin the step of ``as_of`` (epoch seconds) with the changes of the calendar and the rows from outside that
        came since the last one.

        Raises:
            ValueError: the step is not after the last one.
        """
        if self.as_of is not None and as_of <= self.as_of:
            raise ValueError(f"step {as_of} does not follow {self.as_of}")
        self.calendar.apply(calendar, as_of)
        if self.exogenous is not None:
            self.exogenous.step(as_of, exogenous)
        self._begun, self._under_way = as_of, True
        self._near = [r for r in self.calendar.near(as_of, self._reach) if not is_feedback(r)]
        marked = (feedback_in(change.record) for change in calendar if not change.removed)
        self._marks = [mark for mark in marked if mark is not None]

    def with_gaps(self, windows: Sequence[ClosedWindow]) -> tuple[ClosedWindow, ...]:
        """Return windows of the step that has begun, marked where telemetry is missing; nothing is learned."""
        return tuple(replace(w, gap=True) if self._pool(w.key).misses(w) else w for w in windows)

    def advise(self, windows: Sequence[ClosedWindow]) -> StepOutput:
        """Learn windows of the step that has begun, at most one per pool, and return what follows for their pools.

        Pools do not depend on each other: a step may be advised in parts, in any order. Pools whose restored state has
        seen the step already are left out.

        Raises:
            ValueError: a window does not end at the time of the step.
        """
        as_of = self._begun
        asked: list[tuple[ClosedWindow, ClosedWindow]] = []
        steps: list[Stepping[PoolOutcome]] = []
        for window in sorted(windows, key=lambda w: w.key):
            if window.end != as_of:
                raise ValueError(f"window of {window.key} ends at {window.end}, not at {as_of}")
            self._named_at[window.key] = as_of
            if self._ahead.get(window.key, -1) < as_of:
                near = [r for r in self._near if r.scope.includes(*window.key)]
                for mark in self._marks:
                    if (mark.model, mark.pool) == (window.key.model, window.key.pool):
                        self._pool(window.key).mark(mark)
                filled = with_usage_of_all(window)
                asked.append((window, filled))
                steps.append(self._pool(window.key).stepping(filled, self.rules, near, self.exogenous))
        outcomes = [
            # What is kept is what was counted.
            outcome if filled is window else replace(outcome, window=replace(window, gap=outcome.window.gap))
            for (window, filled), outcome in zip(asked, step_together(steps), strict=True)
        ]
        return StepOutput(
            as_of=as_of,
            windows=tuple(o.window for o in outcomes),
            forecasts=tuple(f for o in outcomes for f in o.forecasts),
            scores=tuple(s for o in outcomes for s in o.scores),
            recommendations=tuple(o.recommendation for o in outcomes if o.recommendation is not None),
            alerts=tuple(a for o in outcomes for a in o.alerts),
            outlooks=tuple(x for o in outcomes for x in o.outlooks),
            tenants=tuple(t for o in outcomes for t in o.tenants),
            scorecards=tuple(s for o in outcomes for s in o.scorecards),
            uses=tuple(u for o in outcomes for u in o.uses),
        )

    def finish(self) -> None:
        """End the step that has begun: all its windows have been advised."""
        self._forget_gone(self._begun)
        self.as_of = self._begun
        self._under_way, self._revised_at = False, None

    def revise(self, inputs: RevisionInput) -> StepOutput:
        """Raise advice by what fleets have reported since the last step; return the recommendations that were raised.

        Nothing is lowered and nothing is learned. Pools whose advice stays are not in the output, and their state is as
        it was: a revision without an output need not be kept or replayed.

        Raises:
            ValueError: the revision does not follow the last step and the last revision, or a step is under way.
        """
        if self._under_way:
            raise ValueError(f"revision {inputs.as_of} comes while step {self._begun} is under way")
        if inputs.after != self.as_of:
            raise ValueError(f"revision {inputs.as_of} follows step {inputs.after}, but the last one was {self.as_of}")
        newest = max((at for at in (self.as_of, self._revised_at) if at is not None), default=None)
        if newest is not None and inputs.as_of <= newest:
            raise ValueError(f"revision {inputs.as_of} does not follow {newest}")
        self._revised_at = inputs.as_of
        until = inputs.as_of + self._settings.windows.allowed_lateness_seconds
        said: list[tuple[Reading, Recommendation]] = []
        for reading in sorted(inputs.readings, key=lambda r: r.key):
            key = reading.key
            if key not in self._configured or self._ahead.get(key, -1) >= inputs.as_of:
                continue
            known = self._pools.get(key)
            if known is None and (inputs.after is not None or saturated(reading) is None):
                continue  # there is nothing to raise, and a pool is dear to make
            pool = known or PoolAdvisor(key, self._configured[key], self._settings, self._config_hash, self.catalog)
            recommendation = pool.revise(inputs.as_of, inputs.after, reading, until)
            if recommendation is not None:
                self._pools[key] = pool
                self._named_at.setdefault(key, inputs.as_of)
                said.append((reading, recommendation))
        return StepOutput(
            as_of=inputs.as_of,
            recommendations=tuple(recommendation for _, recommendation in said),
            readings=tuple(reading for reading, _ in said),
        )

    @property
    def pools(self) -> Collection[PoolKey]:
        """The pools that are known, in the order in which they came."""
        return self._pools.keys()

    def _pool(self, key: PoolKey) -> PoolAdvisor:
        pool = self._pools.get(key)
        if pool is None:
            pool = PoolAdvisor(key, self._configured.get(key), self._settings, self._config_hash, self.catalog)
            self._pools[key] = pool
        return pool

    def _forget_gone(self, as_of: int) -> None:
        for key in [key for key, at in self._named_at.items() if at + FORGET_SECONDS <= as_of]:
            del self._named_at[key]
            if self._ahead.get(key, -1) < as_of:  # else it has come back since
                self._pools.pop(key, None)

    def snapshot(self) -> bytes:
        """The whole state; only ever read back from the store that this process owns."""
        return self._packed({key: self.pool_snapshot(key) for key in self._pools})

    def shared_snapshot(self) -> bytes:
        """The state less that of the pools, which ``pool_snapshot`` gives one by one; ``restore`` takes both."""
        return self._packed({})

    def pool_snapshot(self, key: PoolKey) -> bytes:
        """The state of one pool after the last step, compressed: it is written far more often than it is read."""
        return pack(self._pools[key])

    def _packed(self, pools: Mapping[PoolKey, bytes]) -> bytes:
        made_for = (STATE_VERSION, self._config_hash, self._equipment)
        return pickle.dumps((*made_for, self.as_of, self._named_at, self.calendar, self.exogenous, pools), protocol=5)

    @classmethod
    def restore(
        cls,
        settings: Settings,
        blob: bytes,
        catalog: Catalog | None = None,
        newer: Mapping[PoolKey, tuple[int, bytes]] | None = None,
    ) -> Advisor:
        """Continue from ``snapshot`` or ``shared_snapshot``.

        ``newer`` are pools as they were after a later step: (as_of, ``pool_snapshot``). The caller then steps all
        windows since the snapshot again; each pool learns those that it has not seen.

        Raises:
            CodecError: the snapshot is damaged, of another version, or made under other settings or for other models
                and accelerators; the caller then replays the closed windows instead.
        """
        advisor = cls(settings, catalog)
        try:
            version, *rest = pickle.loads(blob)
        except Exception as error:
            raise CodecError(f"the snapshot cannot be read: {error}") from error
        if version != STATE_VERSION:
            raise CodecError(f"the snapshot has version {version}, this program {STATE_VERSION}")
        config_hash, equipment, advisor.as_of, advisor._named_at, advisor.calendar, advisor.exogenous, pools = rest
        if config_hash != advisor._config_hash:
            raise CodecError("the snapshot was made under other settings")
        if equipment != advisor._equipment:
            raise CodecError("the snapshot was made for other models or accelerators of the same names")
        found = dict.fromkeys(pools, advisor.as_of) | {key: as_of for key, (as_of, _) in (newer or {}).items()}
        bodies = pools | {key: body for key, (_, body) in (newer or {}).items()}
        try:
            advisor._pools = {key: unpack(body) for key, body in bodies.items()}
        except Exception as error:
            raise CodecError(f"the snapshot of a pool cannot be read: {error}") from error
        for key, pool in advisor._pools.items():
            pool.share(advisor._configured.get(key))
        advisor._ahead = {key: as_of for key, as_of in found.items() if as_of != advisor.as_of}
        return advisor


def known_exogenous(settings: Settings) -> KnownExogenous | None:
    """What remembers rows from outside; None: these settings take none, and no step has any work with them."""
    forecast = settings.forecast
    if forecast.external is None and not forecast.signals:
        return None
    names = [signal.name for signal in forecast.signals]
    return KnownExogenous(settings.windows.grain_seconds, forecast.horizons_seconds, names)


def _equipment(settings: Settings, catalog: Catalog) -> str:
    """A digest of what the pools' profiles and accelerators stand for: the plans in a snapshot were made with it."""
    found = []
    for pool in settings.pools:
        try:
            found.append(repr((catalog.model(pool.profile), catalog.gpu(pool.accelerator))))
        except SizingError as error:
            found.append(str(error))
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:12]
