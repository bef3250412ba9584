"""A fleet of Kubernetes objects with a scale subresource: Deployments, LeaderWorkerSets and the like.

Counts are read from the scale (``spec.replicas``: what was asked for, starting and pending pods included) and from
``status.readyReplicas``; requests, where a target names its router, from that router's metrics. Nothing is changed
unless ``fleet.actuate`` is set.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from pipeline.errors import CodecError, ConfigError
from pipeline.extension_options import checked
from pipeline.fleet.background import Background
from pipeline.fleet.base import FleetContext
from pipeline.fleet.kafka_reports import ReplicaStatus
from pipeline.fleet.kubernetes.api import KubernetesError, ScaleApi
from pipeline.fleet.kubernetes.audit import AuditLog, Decision, Outcome
from pipeline.fleet.kubernetes.options import KubernetesOptions, Target
from pipeline.fleet.router.count import PoolRequests
from pipeline.fleet.router.pages import RouterPages
from pipeline.fleet.router.router import Router
from pipeline.windows.types import PoolKey

__all__ = ["KubernetesFleet", "kubernetes_fleet"]

_log = logging.getLogger(__name__)

_AT_ONCE = 8


class KubernetesFleet(Background):
    """Reports the replicas of each target again and again; scales them where ``fleet.actuate`` allows it."""

    def __init__(self, context: FleetContext, options: KubernetesOptions) -> None:
        self._context = context
        self._options = options
        self._targets = {target.key: target for target in options.targets}
        self._paths = {target.key: target.path(options.namespace) for target in options.targets}
        self._pools = {PoolKey(pool.model, pool.pool): pool for pool in context.settings.pools}
        self._api = ScaleApi(options)
        self._audit = AuditLog(options.audit_file)
        self._routers = {target.key: Router(target.router) for target in options.targets if target.router is not None}
        self._problems: dict[PoolKey, str] = {}
        self.can_scale = context.settings.fleet.actuate
        self.rejected = 0

    async def stop(self) -> None:
        """Stop reporting and close the connections."""
        await super().stop()
        await self._api.close()

    async def scale(self, key: PoolKey, replicas: int) -> None:
        """Set the replicas of the pool's object, within the target's limits and those of the pool's settings.

        A pool without a target is left alone, so that pools can be handed over one by one.

        Raises:
            NotImplementedError: ``fleet.actuate`` is not set.
            KubernetesError: the API server refused, or could not be asked.
            OSError: the audit file cannot be written; nothing was changed unless the decision is in the log.
        """
        if not self.can_scale:
            raise NotImplementedError("fleet.actuate is not set")
        target = self._targets.get(key)
        if target is None:
            self._tell(key, "not scaled: fleet.options.targets names no object for it")
            return
        await asyncio.to_thread(self._audit.check)
        wanted = self._within_limits(target, replicas)
        before: int | None = None
        try:
            before = await self._api.replicas(self._paths[key])
            taken = before
            if wanted != before:
                taken = await self._api.set_replicas(self._paths[key], wanted, dry_run=self._options.dry_run)
            if taken != wanted:
                raise KubernetesError(f"asked for {wanted} replicas, the API server made it {taken}")
        except KubernetesError as error:
            await self._record(key, replicas, wanted, before, str(error))
            raise
        await self._record(key, replicas, wanted, before)
        if not self._options.dry_run:
            async with self._pages() as pages:
                await self._look(target, pages)

    def _within_limits(self, target: Target, replicas: int) -> int:
        pool = self._pools.get(target.key)
        limits = [target.max_replicas, None if pool is None else pool.max_replicas]
        most = min((limit for limit in limits if limit is not None), default=replicas)
        return max(target.min_replicas, min(replicas, most))

    async def _record(self, key: PoolKey, asked: int, wanted: int, before: int | None, failure: str = "") -> None:
        outcome: Outcome
        if failure:
            outcome = "failed"
        elif wanted == before:
            outcome = "unchanged"
        else:
            outcome = "dry_run" if self._options.dry_run else "scaled"
        decision = Decision(
            at=self._context.clock.now(),
            model=key.model,
            pool=key.pool,
            target=self._paths[key],
            asked=asked,
            wanted=wanted,
            before=before,
            outcome=outcome,
            detail=failure,
        )
        await asyncio.to_thread(self._audit.write, decision)

    async def _run(self) -> None:
        allowed = asyncio.Semaphore(_AT_ONCE)

        async def look(target: Target, pages: RouterPages) -> None:
            async with allowed:
                await self._look(target, pages)

        while True:
            async with self._pages() as pages:
                await asyncio.gather(*(look(target, pages) for target in self._targets.values()))
            await asyncio.sleep(self._options.every_seconds)

    def _pages(self) -> contextlib.aclosing[RouterPages]:
        return contextlib.aclosing(RouterPages(self._context.clock, self._options.timeout_seconds))

    async def _look(self, target: Target, pages: RouterPages) -> None:
        """Report one target."""
        # Side by side: what scales has so much time for all of it.
        (requests, no_requests), (counts, problem) = await asyncio.gather(
            self._requests(target, pages), self._counts(target)
        )
        if requests is None:
            return  # a newer report was made meanwhile
        if counts is not None:
            status = ReplicaStatus(
                model=target.model,
                pool=target.pool,
                at=self._context.clock.now() if requests.at is None else requests.at,
                current=counts[0],
                ready=counts[1],
                queued_requests=requests.queued,
                running_requests=requests.running,
                requests_total=requests.total,
            )
            try:
                self._context.report(status)
            except CodecError as error:
                self.rejected += 1
                problem = str(error)
        problems = (("requests", no_requests), ("replicas", problem))
        self._tell(target.key, "; ".join(f"{what} are not known: {why}" for what, why in problems if why))

    async def _requests(self, target: Target, pages: RouterPages) -> tuple[PoolRequests | None, str]:
        """Requests of a target, and why they are not known; None: newer ones were reported."""
        router = self._routers.get(target.key)
        try:
            return PoolRequests() if router is None else await router.look(pages), ""
        except CodecError as error:
            return PoolRequests(), str(error)

    async def _counts(self, target: Target) -> tuple[tuple[int, int | None] | None, str]:
        """Replicas of a target that were asked for and that are ready; None: not known, and why."""
        path = self._paths[target.key]
        try:
            current = await self._api.replicas(path)
            return (current, await self._api.ready_replicas(path) if target.tells_ready else None), ""
        except KubernetesError as error:
            return None, str(error)

    def _tell(self, key: PoolKey, problem: str) -> None:
        """Log the problem of a pool ("": none any more) when it is new, not with every look."""
        if problem != self._problems.get(key, ""):
            if problem:
                _log.warning("%s/%s: %s", *key, problem)
            else:
                _log.info("%s/%s: known again", *key)
            self._problems[key] = problem


def kubernetes_fleet(context: FleetContext) -> KubernetesFleet:
    """Make the fleet of ``fleet.source = "kubernetes"``.

    Raises:
        ConfigError: an option is unknown, missing or wrong.
    """
    options = checked(KubernetesOptions, context.options, "fleet.options")
    grain = context.settings.windows.grain_seconds
    # A count says something about a window between two looks in it, at least half of it apart (engine.telemetry_gaps).
    if options.every_seconds > grain / 4 and any(target.router is not None for target in options.targets):
        raise ConfigError(
            f"fleet.options.every_seconds: {options.every_seconds:g} is too long for targets with a router; "
            f"at most a quarter of windows.grain_seconds ({grain})"
        )
    return KubernetesFleet(context, options)
