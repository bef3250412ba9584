"""The advised replicas of all pools, split over the stock that they share (``fleet.stock``).

A split is made after a step when the advice of a pool has changed, from the advice and the split before, and from
nothing else: who reads it, and when, changes nothing. The store keeps it, so that a restart continues from it, and a
mix is left only for one that saves more than the change costs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import msgspec

from pipeline.config.settings import PoolSettings
from pipeline.config.stock_file import SharedStock
from pipeline.publish.fleet_rows import mix_rows, stock_rows
from pipeline.publish.fleet_split_state import Known, SplitState, Terms, read_state
from pipeline.publish.views import PoolView
from pipeline.windows.types import PoolKey
from sizing.catalog import Catalog
from sizing.errors import InvalidInput, SizingError
from sizing.planning.fleet import stale_prices
from sizing.planning.fleet_candidates import Excluded, pool_candidates
from sizing.planning.fleet_split import AdvisedPool, FleetSplit, own_candidates, split_fleet
from sizing.planning.fleet_types import Candidate, Fleet, FleetPool, MixKey
from sizing.planning.integer_program import Effort
from sizing.planning.workload_grid import on_grid, rounded
from sizing.types import Recommendation, Workload

__all__ = ["FleetPlanner"]

#: As for ``tokentide fleet plan``, with fewer nodes: it runs beside the engine.
_EFFORT = Effort(1e-4, 20_000)
#: Least seconds of event time from one split to the next.
SPLIT_SECONDS = 60
#: Above what any pool asks for: no shape is left out because a smaller one would do.
_ANY_DEMAND = 1e8


class FleetPlanner:
    """Splits advice over the stock. ``take``, ``split`` and ``restore`` are for one thread at a time; any may read."""

    def __init__(self, shared: SharedStock, pools: Iterable[PoolSettings], catalog: Catalog) -> None:
        self.shared = shared
        self._settings = {PoolKey(p.model, p.pool): p for p in pools}
        self._catalog = catalog
        told = (shared, sorted((key, p.model_dump_json()) for key, p in self._settings.items()))
        self._made_for = hashlib.sha256(repr(told).encode()).hexdigest()
        self._terms: dict[PoolKey, Terms] = {}
        self._found: dict[PoolKey, tuple[Known, list[Candidate], list[Excluded]]] = {}
        self._state: SplitState | None = None

    @property
    def state(self) -> SplitState | None:
        """The newest split, and what it was made of; None: there was no advice yet."""
        return self._state

    def restore(self, body: str) -> None:
        """Continue from what ``split`` returned last. What another version wrote in another shape is passed over.

        After a change of the stock or of a pool's settings the split is made anew in the next step, and changes count
        against the one before.
        """
        state = read_state(body)
        if state is None:
            return
        self._state = state
        self._terms = {
            key: terms for terms in state.terms if (key := PoolKey(terms.model, terms.pool)) in self._settings
        }

    def take(self, advice: Iterable[Recommendation]) -> None:
        """Take in what a step, or a part of one, advises; pools without settings are passed over."""
        for told in advice:
            key = PoolKey(told.model, told.pool)
            if key not in self._settings:
                continue
            before, known = self._terms.get(key), _known(told)
            if before is None or (before.generation, before.desired) != (told.generation, told.desired):
                if known is None and before is not None:  # advice that only holds has no plan in its evidence
                    known = before.known
                self._terms[key] = Terms(*key, told.generation, told.desired, told.confidence, known)
            elif before.known is None and known is not None:
                self._terms[key] = msgspec.structs.replace(before, known=known)

    def split(self, as_of: int) -> str | None:
        """Split the stock anew where advice has changed; return the new state for ``restore``, None: nothing changed.

        At most once in ``SPLIT_SECONDS`` of event time, since with many pools a split takes seconds. Pools that are not
        advised any more keep the stock of their last advice; those that never were have none.
        """
        terms = [self._terms[key] for key in self._settings if key in self._terms]
        state = self._state
        changed = state is None or state.terms != terms
        if not terms or not (changed or state is None or state.waiting or state.made_for != self._made_for):
            return None
        if state is not None and state.made_for == self._made_for and as_of < state.as_of + SPLIT_SECONDS:
            if not changed:
                return None
            self._state = msgspec.structs.replace(state, terms=terms, waiting=True)
        else:
            self._state = self._split_of(terms, None if state is None else state.mix, as_of)
        return msgspec.json.encode(self._state).decode()

    def data(self, views: Iterable[PoolView], when: float) -> dict[str, Any]:
        """Return the split as ``/v1/fleet`` has it; prices are judged at ``when`` (epoch seconds).

        Raises:
            SizingError: no plan was found for the newest advice.
        """
        state = self._state
        if state is not None and state.plan is None:
            raise SizingError(state.problem or "the solver ended without an answer")
        fresh = {view.key for view in views if view.recommendation is not None}
        plan: dict[str, Any] = _NO_PLAN if state is None or state.plan is None else state.plan
        advised = set() if state is None else {PoolKey(t.model, t.pool) for t in state.terms}
        stock = self.shared.stock
        day = datetime.fromtimestamp(when, tz=UTC).date()
        return {
            "budget_dollars_per_hour": self.shared.budget_dollars_per_hour,
            "committed_dollars_per_hour": sum(line.committed_dollars_per_hour for line in stock),
            **plan,
            "pools": [
                row | {"advice_expired": PoolKey(row["model"], row["pool"]) not in fresh} for row in plan["pools"]
            ],
            "stale_prices": [asdict(price) for price in stale_prices(stock, day)],
            "without_advice": [{"model": k.model, "pool": k.pool} for k in self._settings if k not in advised],
        }

    def _split_of(self, terms: list[Terms], before: list[tuple[MixKey, int]] | None, as_of: int) -> SplitState:
        try:
            split = self._split(terms, None if before is None else dict(before))
        except (ValueError, ArithmeticError) as error:  # of the solver, too: the engine must not end by a split
            return SplitState(self._made_for, as_of, terms, before, None, str(error))
        mix = [(c.key, n) for c, n in split.mix.replicas]
        return SplitState(self._made_for, as_of, terms, mix, _plan(split, terms))

    def _split(self, terms: list[Terms], before: dict[MixKey, int] | None) -> FleetSplit:
        pools, candidates, excluded, demand = [], [], [], {}
        shared = self.shared
        for told in terms:
            key = PoolKey(told.model, told.pool)
            settings, pool = self._settings[key], self._pool(key, told.known)
            found, not_possible = self._candidates(key, pool, told.known)
            advised = AdvisedPool(
                pool=pool.name,
                gpu=self._catalog.gpu(settings.accelerator).name,
                tensor_parallel=settings.tensor_parallel,
                gpus=settings.deployment().gpus,
                replicas=told.desired,
                requests_per_second=1.0 if told.known is None else told.known.requests_per_second,
                confidence=told.confidence,
            )
            pools.append(pool)
            candidates += own_candidates(advised, pool, shared.stock, found)
            excluded += not_possible
            demand[pool.name] = advised.demand
        fleet = Fleet(
            tuple(pools),
            shared.stock,
            budget_dollars_per_hour=shared.budget_dollars_per_hour,
            change_dollars=shared.change_dollars,
            hold_hours=shared.hold_hours,
        )
        return split_fleet(fleet, candidates, demand, before, excluded=excluded, effort=_EFFORT)

    def _pool(self, key: PoolKey, known: Known | None) -> FleetPool:
        settings, terms = self._settings[key], self.shared.pools[key]
        return FleetPool(
            name="|".join(key),
            model=settings.profile,
            levels=(0.5,),
            requests_per_second=(_ANY_DEMAND,),
            workload=(
                Workload(1.0, 1.0)
                if known is None
                else Workload(known.input_tokens, known.output_tokens, cached_share=known.cached_share)
            ),
            slo=settings.slo(),
            priority=terms.priority,
            gpus=terms.gpus,
            regions=terms.regions,
            tensor_parallel=tuple(sorted({*terms.tensor_parallel, settings.tensor_parallel})),
            precision=settings.precision,
            kv_precision=settings.kv_precision,
            engine=settings.engine,
            engine_version=settings.engine_version,
            dispersion=1.0 if known is None else known.dispersion,
            max_spot_share=terms.max_spot_share,
            under_to_over_cost=settings.under_to_over_cost,
        )

    def _candidates(self, key: PoolKey, pool: FleetPool, known: Known | None) -> tuple[list[Candidate], list[Excluded]]:
        """Kept for lengths within 1 %; without a plan nothing but the pool's own shape can be judged."""
        if known is None:
            return [], []
        same = msgspec.structs.replace(known, requests_per_second=0.0)
        kept = self._found.get(key)
        if kept is None or kept[0] != same:
            try:
                found, excluded = pool_candidates(pool, Fleet((pool,), self.shared.stock), self._catalog)
            except InvalidInput as error:  # lengths that no model serves
                settings = self._settings[key]
                found, excluded = [], [Excluded(pool.name, settings.accelerator, settings.tensor_parallel, str(error))]
            kept = self._found[key] = (same, found, excluded)
        return kept[1], kept[2]


_NO_PLAN: dict[str, Any] = {
    **dict.fromkeys(("holds", "dollars_per_hour", "smallest_budget_dollars_per_hour", "changes", "optimality_gap")),
    **{name: [] for name in ("pools", "stock", "excluded")},
}


def _known(advice: Recommendation) -> Known | None:
    """What the evidence tells on a grid; None: advice that only holds has no plan in it."""
    told = advice.evidence
    rate = told.get("capacity_requests_per_second_per_replica", 0.0)
    lengths = told.get("input_tokens", 0.0), told.get("output_tokens", 0.0)
    if not (rate > 0 and min(lengths) > 0):
        return None
    workload = rounded(Workload(*lengths, cached_share=told.get("cached_share", 0.0)))
    dispersion = on_grid(told.get("dispersion", 1.0), 10)
    return Known(rate, workload.input_tokens, workload.output_tokens, workload.cached_share, dispersion)


def _plan(split: FleetSplit, terms: list[Terms]) -> dict[str, Any]:
    """What is told of a split, but for what depends on when it is read."""
    fleet, mix = split.fleet, split.mix
    rows = mix_rows(fleet, mix)
    names = {pool.name: {"model": told.model, "pool": told.pool} for told, pool in zip(terms, fleet.pools, strict=True)}
    return {
        "holds": mix.holds,
        "dollars_per_hour": mix.dollars_per_hour,
        "smallest_budget_dollars_per_hour": split.smallest_budget_dollars_per_hour,
        "changes": mix.changes,
        "optimality_gap": mix.optimality_gap if math.isfinite(mix.optimality_gap) else None,
        "pools": [
            names[pool.name]
            | {
                "priority": pool.priority,
                "advised_replicas": told.desired,
                "generation": told.generation,
                "short_share": mix.short[pool.name],
                "split": [{k: v for k, v in row.items() if k != "pool"} for row in rows if row["pool"] == pool.name],
            }
            for told, pool in zip(terms, fleet.pools, strict=True)
        ],
        "stock": stock_rows(fleet, mix),
        "excluded": [asdict(one) | names[one.pool] for one in split.excluded],
    }
