"""The advised replicas of all pools, split over the stock that they share (``fleet.stock``).

A plan is made when it is asked for and kept until the advice of a pool changes. The mix before is remembered for as
long as the process lives, so that a mix is left only for one that saves more than the change costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pipeline.config.settings import PoolSettings
from pipeline.config.stock_file import SharedStock
from pipeline.publish.fleet_rows import mix_rows, stock_rows
from pipeline.publish.views import PoolView
from pipeline.windows.types import PoolKey
from sizing.catalog import Catalog
from sizing.errors import InvalidInput
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
#: Above what any pool asks for: no shape is left out because a smaller one would do.
_ANY_DEMAND = 1e8


@dataclass(frozen=True, slots=True)
class _Known:
    """What the evidence of the newest advice with a plan says: of one replica, and of the requests."""

    requests_per_second: float
    workload: Workload
    dispersion: float


class FleetPlanner:
    """Splits advice over the stock; for one thread at a time."""

    def __init__(self, shared: SharedStock, pools: Iterable[PoolSettings], catalog: Catalog) -> None:
        self._shared = shared
        self._settings = {PoolKey(p.model, p.pool): p for p in pools}
        self._catalog = catalog
        self._known: dict[PoolKey, _Known] = {}
        self._found: dict[PoolKey, tuple[_Known, list[Candidate], list[Excluded]]] = {}
        self._before: dict[MixKey, int] | None = None
        #: What it is for, and the plan.
        self._kept: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    @staticmethod
    def key(views: Iterable[PoolView]) -> tuple[Any, ...]:
        """Return what a plan is good for: another key needs another plan."""
        return tuple(
            (view.key, advice.generation, advice.desired, view.recommendation is not None)
            for view in views
            if (advice := _advice(view)) is not None
        )

    def kept(self, key: tuple[Any, ...]) -> dict[str, Any] | None:
        """Return the plan for a key, as JSON; None where the one that is kept is for another. From any thread."""
        kept = self._kept
        return kept[1] if kept is not None and kept[0] == key else None

    def plan(self, views: Iterable[PoolView], when: float) -> dict[str, Any]:
        """Return the plan for configured pools as ``/v1/fleet`` has it; prices are judged at ``when`` (epoch seconds).

        Pools whose advice has expired keep the stock of it; those that never had any are left out.

        Raises:
            SizingError: the solver ended without an answer.
        """
        advised = {view.key: view for view in views if view.key in self._settings and _advice(view) is not None}
        key = self.key(advised.values())
        split = self._split(advised)
        if split is not None:
            self._before = {c.key: n for c, n in split.mix.replicas}
        missing = [{"model": k.model, "pool": k.pool} for k in self._settings if k not in advised]
        data = _data(split, advised, self._shared, when) | {"without_advice": missing}
        self._kept = key, data
        return data

    def _split(self, views: dict[PoolKey, PoolView]) -> FleetSplit | None:
        if not views:
            return None
        pools, candidates, excluded, demand = [], [], [], {}
        stock = self._shared.stock
        for key, view in views.items():
            advice = _advice(view)
            assert advice is not None
            known = self._learn(key, advice)
            settings, pool = self._settings[key], self._pool(key, known)
            found, not_possible = self._candidates(key, pool, known)
            advised = AdvisedPool(
                pool=pool.name,
                gpu=self._catalog.gpu(settings.accelerator).name,
                tensor_parallel=settings.tensor_parallel,
                gpus=settings.deployment().gpus,
                replicas=advice.desired,
                requests_per_second=1.0 if known is None else known.requests_per_second,
                confidence=advice.confidence,
            )
            pools.append(pool)
            candidates += own_candidates(advised, pool, stock, found)
            excluded += not_possible
            demand[pool.name] = advised.demand
        shared = self._shared
        fleet = Fleet(
            tuple(pools),
            stock,
            budget_dollars_per_hour=shared.budget_dollars_per_hour,
            change_dollars=shared.change_dollars,
            hold_hours=shared.hold_hours,
        )
        return split_fleet(fleet, candidates, demand, self._before, excluded=excluded, effort=_EFFORT)

    def _learn(self, key: PoolKey, advice: Recommendation) -> _Known | None:
        """Advice that only holds has no plan in its evidence: what was known before stays."""
        told = advice.evidence
        rate = told.get("capacity_requests_per_second_per_replica", 0.0)
        lengths = told.get("input_tokens", 0.0), told.get("output_tokens", 0.0)
        if rate > 0 and min(lengths) > 0:
            workload = Workload(*lengths, cached_share=told.get("cached_share", 0.0))
            self._known[key] = _Known(rate, rounded(workload), on_grid(told.get("dispersion", 1.0), 10))
        return self._known.get(key)

    def _pool(self, key: PoolKey, known: _Known | None) -> FleetPool:
        settings, terms = self._settings[key], self._shared.pools[key]
        return FleetPool(
            name="|".join(key),
            model=settings.profile,
            levels=(0.5,),
            requests_per_second=(_ANY_DEMAND,),
            workload=Workload(1.0, 1.0) if known is None else known.workload,
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

    def _candidates(
        self, key: PoolKey, pool: FleetPool, known: _Known | None
    ) -> tuple[list[Candidate], list[Excluded]]:
        """Kept for lengths within 1 %; without a plan nothing but the pool's own shape can be judged."""
        if known is None:
            return [], []
        same = replace(known, requests_per_second=0.0)
        kept = self._found.get(key)
        if kept is None or kept[0] != same:
            try:
                found, excluded = pool_candidates(pool, Fleet((pool,), self._shared.stock), self._catalog)
            except InvalidInput as error:  # lengths that no model serves
                settings = self._settings[key]
                found, excluded = [], [Excluded(pool.name, settings.accelerator, settings.tensor_parallel, str(error))]
            kept = self._found[key] = (same, found, excluded)
        return kept[1], kept[2]


def _advice(view: PoolView) -> Recommendation | None:
    return view.recommendation or view.expired


def _data(split: FleetSplit | None, views: dict[PoolKey, PoolView], shared: SharedStock, when: float) -> dict[str, Any]:
    data: dict[str, Any] = {
        "budget_dollars_per_hour": shared.budget_dollars_per_hour,
        "committed_dollars_per_hour": sum(line.committed_dollars_per_hour for line in shared.stock),
    }
    lists = ("pools", "stock", "stale_prices", "excluded")
    if split is None:
        unknown = ("holds", "dollars_per_hour", "smallest_budget_dollars_per_hour", "changes", "optimality_gap")
        return data | dict.fromkeys(unknown) | {name: [] for name in lists}
    fleet, mix = split.fleet, split.mix
    rows = mix_rows(fleet, mix)
    names = {pool.name: {"model": key.model, "pool": key.pool} for key, pool in zip(views, fleet.pools, strict=True)}
    stale = stale_prices(fleet, datetime.fromtimestamp(when, tz=UTC).date())
    return data | {
        "holds": mix.holds,
        "dollars_per_hour": mix.dollars_per_hour,
        "smallest_budget_dollars_per_hour": split.smallest_budget_dollars_per_hour,
        "changes": mix.changes,
        "optimality_gap": mix.optimality_gap if math.isfinite(mix.optimality_gap) else None,
        "pools": [
            names[pool.name] | _pool_row(view, pool, rows, mix.short[pool.name])
            for view, pool in zip(views.values(), fleet.pools, strict=True)
        ],
        "stock": stock_rows(fleet, mix),
        "stale_prices": [asdict(price) for price in stale],
        "excluded": [asdict(one) | names[one.pool] for one in split.excluded],
    }


def _pool_row(view: PoolView, pool: FleetPool, rows: list[dict[str, Any]], short: float) -> dict[str, Any]:
    advice = _advice(view)
    assert advice is not None
    return {
        "priority": pool.priority,
        "advised_replicas": advice.desired,
        "generation": advice.generation,
        "advice_expired": view.recommendation is None,
        "short_share": short,
        "split": [{k: v for k, v in row.items() if k != "pool"} for row in rows if row["pool"] == pool.name],
    }
