"""A KEDA external scaler: the advice of one pool as the metric of one ScaledObject.

KEDA takes "inactive" as leave to scale to zero, and a metric of 0 likewise. So no answer ever says either because
something is not known: then every call but ``GetMetricSpec`` is an error, on which KEDA holds what runs or falls back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import grpc

from pipeline.publish.autoscaler import autoscaler_replicas, is_fresh
from pipeline.publish.keda.messages import (
    SERVICE,
    GetMetricSpecResponse,
    GetMetricsRequest,
    GetMetricsResponse,
    IsActiveResponse,
    ScaledObjectRef,
)
from pipeline.publish.views import PoolView

__all__ = ["METRIC_NAME", "ExternalScaler"]

METRIC_NAME = "tokentide-desired-replicas"
_STREAM_SECONDS = 1.0


class ExternalScaler:
    """The four calls of the protocol; trigger metadata ``model`` and ``pool`` ("default") name the pool.

    Args:
        view: returns a pool as it looks now; None: unknown.
        stream_seconds: between two looks of ``StreamIsActive``.
    """

    def __init__(self, view: Callable[[str, str], PoolView | None], stream_seconds: float = _STREAM_SECONDS) -> None:
        self._view = view
        self._stream_seconds = stream_seconds

    async def get_metric_spec(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        """Answer always, also while there is no advice: without a spec KEDA makes no HPA. Target 1 per replica."""
        return GetMetricSpecResponse(metricSpecs=[{"metricName": METRIC_NAME, "targetSize": 1, "targetSizeFloat": 1.0}])

    async def get_metrics(self, request: Any, context: Any) -> Any:
        """Answer with the replicas to run.

        Aborts with INVALID_ARGUMENT (no such metric, or no pool named), NOT_FOUND (unknown pool) or
        FAILED_PRECONDITION (no advice, or it has expired).
        """
        if request.metricName != METRIC_NAME:
            await self._abort(context, "INVALID_ARGUMENT", f"no metric {request.metricName[:64]!r}; {METRIC_NAME}")
        replicas = await self._replicas(request.scaledObjectRef, context)
        value = {"metricName": METRIC_NAME, "metricValue": replicas, "metricValueFloat": float(replicas)}
        return GetMetricsResponse(metricValues=[value])

    async def is_active(self, request: Any, context: Any) -> Any:
        """Answer whether any replica is to run; aborts as ``get_metrics`` does."""
        return IsActiveResponse(result=await self._replicas(request, context) > 0)

    async def stream_is_active(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Send whether any replica is to run, when that changes; nothing while it is not known."""
        model, pool = await self._named(request, context)
        sent: bool | None = None
        while True:
            replicas, _ = self._known(model, pool)
            if replicas is not None and (replicas > 0) != sent:
                sent = replicas > 0
                yield IsActiveResponse(result=sent)
            await asyncio.sleep(self._stream_seconds)

    def handler(self) -> Any:
        """Return the service as a generic gRPC handler."""
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        calls = (
            ("IsActive", unary, self.is_active, ScaledObjectRef, IsActiveResponse),
            ("StreamIsActive", stream, self.stream_is_active, ScaledObjectRef, IsActiveResponse),
            ("GetMetricSpec", unary, self.get_metric_spec, ScaledObjectRef, GetMetricSpecResponse),
            ("GetMetrics", unary, self.get_metrics, GetMetricsRequest, GetMetricsResponse),
        )
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                name: make(call, request_deserializer=asked.FromString, response_serializer=answer.SerializeToString)
                for name, make, call, asked, answer in calls
            },
        )

    async def _replicas(self, ref: Any, context: Any) -> int:
        replicas, problem = self._known(*await self._named(ref, context))
        if replicas is None:
            await self._abort(context, *problem)
        return replicas

    def _known(self, model: str, pool: str) -> tuple[int | None, tuple[str, str]]:
        """Replicas to run, or None with the status and the text of why they are not known."""
        view = self._view(model, pool)
        if view is None:
            return None, ("NOT_FOUND", f"no pool {model}/{pool}")
        if view.recommendation is None:
            return None, ("FAILED_PRECONDITION", f"no valid advice for {model}/{pool}; hold what runs")
        replicas = autoscaler_replicas(view)
        if not replicas and not is_fresh(view):
            return None, ("FAILED_PRECONDITION", f"nothing is known to run of {model}/{pool}, and advice is not fresh")
        return replicas, ("", "")

    async def _named(self, ref: Any, context: Any) -> tuple[str, str]:
        model, pool = ref.scalerMetadata.get("model", ""), ref.scalerMetadata.get("pool") or "default"
        if not model or len(model) > 256 or len(pool) > 256:
            await self._abort(context, "INVALID_ARGUMENT", "the trigger's metadata must name model and pool")
        return model, pool

    @staticmethod
    async def _abort(context: Any, status: str, text: str) -> NoReturn:
        await context.abort(getattr(grpc.StatusCode, status), text)
        raise AssertionError("abort raises")
