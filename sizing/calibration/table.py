"""Predicts one row of a table: latency and throughput of a deployment at a concurrency or a request rate.

Input columns: ``id, model, gpu, gpus_per_node?, tp, pp, ep, dp, precision, kv_precision?, isl, osl, concurrency |
request_rate, engine?, engine_version?, max_num_seqs?, max_batched_tokens?, memory_utilisation?, max_model_len?``;
without a precision the checkpoint's counts, and what else is empty takes the engine's default on that GPU. Latencies
are those of a client: TTFT from sending, TPOT = (E2E - TTFT) / (output tokens - 1). Rows that also have ``tpot_ms``
(and ``ttft_ms``) are measurements to calibrate on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sizing.calibration.measurement import ObservedPoint, identity
from sizing.catalog import Catalog
from sizing.catalog.engines import engine_defaults
from sizing.errors import DoesNotFit, InvalidInput, SizingError
from sizing.planning.confidence import support
from sizing.replica.load_point import Latency
from sizing.replica.memory import Resolved, fit, kv_bytes_per_token, resolve
from sizing.replica.replica_model import ReplicaModel
from sizing.replica.step_time import StepCoefficients
from sizing.types import CHECKPOINT_PRECISION, Confidence, Constraint, Deployment, Workload

if TYPE_CHECKING:  # who passes a calibration has loaded it
    from sizing.calibration.calibrator import Calibration

__all__ = [
    "INPUT_COLUMNS",
    "OUTPUT_COLUMNS",
    "Calibrations",
    "calibrations",
    "observed_point",
    "predict_point",
]

#: Columns that a row of a question may have.
INPUT_COLUMNS = (
    *("id", "model", "gpu", "gpus_per_node", "engine", "engine_version", "tp", "pp", "ep", "dp"),
    *("precision", "kv_precision", "max_num_seqs", "max_batched_tokens", "memory_utilisation", "max_model_len"),
    *("isl", "osl", "cached_share", "concurrency", "request_rate"),
)
OUTPUT_COLUMNS = (
    "id",
    "ttft_ms_p50",
    "ttft_ms_p95",
    "tpot_ms_p50",
    "tpot_ms_p95",
    "tokens_per_second",
    "fits",
    "limit",
    "ttft_ms_lower",
    "ttft_ms_upper",
    "tpot_ms_lower",
    "tpot_ms_upper",
    "confidence",
    "error",
    "weights_gib_per_gpu",
    "kv_gib_per_gpu",
    "kv_bytes_per_token",
    "kv_tokens",
    "max_sequences",
)

_GIB = 2**30

#: What was measured, by what was deployed.
Calibrations = Mapping[tuple[object, ...], "Calibration"]


def observed_point(row: Mapping[str, Any]) -> ObservedPoint:
    """Read the measurement in a row: ``isl, osl, concurrency | request_rate, tpot_ms, ttft_ms?, cached_share?``.

    ``tpot_ms_p50`` and ``ttft_ms_p50`` are read where the plain names are missing.

    Raises:
        InvalidInput: a number is missing or cannot be.
    """

    def either(name: str) -> str:
        return name if _given(row.get(name)) else f"{name}_p50"

    closed = _given(row.get("concurrency"))
    ttft = either("ttft_ms")
    return ObservedPoint(
        input_tokens=_number(row, "isl"),
        output_tokens=_number(row, "osl"),
        tpot_seconds=_number(row, either("tpot_ms")) / 1e3,
        ttft_seconds=_number(row, ttft) / 1e3 if _given(row.get(ttft)) else None,
        concurrency=_number(row, "concurrency") if closed else None,
        requests_per_second=None if closed else _number(row, "request_rate"),
        closed_loop=closed,
        cached_share=_share(row, "cached_share", 0.0),
    )


def calibrations(
    rows: Iterable[Mapping[str, Any]],
    *,
    catalog: Catalog | None = None,
    coefficients: StepCoefficients | None = None,
) -> dict[tuple[object, ...], Calibration]:
    """Learn measured rows, each for its own deployment; give the result to ``predict_point``.

    Raises:
        SizingError: a row cannot be understood; the text begins with its ``id`` or number.
    """
    from sizing.calibration.calibrator import calibrated

    found: dict[tuple[object, ...], tuple[Resolved, list[ObservedPoint]]] = {}
    for number, row in enumerate(rows, 1):
        try:
            resolved = _resolve(row, catalog)
            point = observed_point(row)
        except SizingError as error:
            raise InvalidInput(f"observed row {row.get('id') or number}: {error}") from error
        found.setdefault(identity(resolved), (resolved, []))[1].append(point)
    return {key: calibrated(resolved, points, prior=coefficients) for key, (resolved, points) in found.items()}


def predict_point(
    row: Mapping[str, Any],
    *,
    catalog: Catalog | None = None,
    coefficients: StepCoefficients | None = None,
    calibrations: Calibrations | None = None,
) -> dict[str, Any]:
    """Predict one row; the result has ``OUTPUT_COLUMNS``. A deployment in ``calibrations`` is predicted with its own.

    Times are milliseconds, ``tokens_per_second`` counts output tokens of the whole replica. What cannot be predicted is
    None, and ``error`` says why; nothing is raised for bad values. ``model`` may be a catalogue name, the name of a
    quantised checkpoint of such a model, or the content of a Hugging Face ``config.json``. Memory is given for every
    row that can be resolved: per GPU, ``kv_bytes_per_token`` of the whole model, ``kv_tokens`` and ``max_sequences``
    of the replica as the engine prints them at start (at ``max_model_len``, else at isl + osl).
    """
    result: dict[str, Any] = dict.fromkeys(OUTPUT_COLUMNS)
    result["id"] = row.get("id")
    result["confidence"] = Confidence.REFUSED.value
    try:
        resolved = _resolve(row, catalog)
        result |= _memory(row, resolved)
        learned = (calibrations or {}).get(identity(resolved))
        result |= _predict(row, resolved, coefficients, learned)
    except DoesNotFit as error:
        result |= {"fits": False, "limit": Constraint.KV_MEMORY.value, "error": str(error)}
    except SizingError as error:
        result["error"] = str(error)
    return result


def _resolve(row: Mapping[str, Any], catalog: Catalog | None) -> Resolved:
    model = row.get("model")
    if not _given(model):
        raise InvalidInput("model is missing")
    catalog = catalog or Catalog()
    spec = catalog.checkpoint(model if isinstance(model, Mapping) else str(model))
    gpu = catalog.gpu(_text(row, "gpu", ""))
    per_node = _whole(row, "gpus_per_node", gpu.gpus_per_node)
    engine, version = _text(row, "engine", "vllm"), _text(row, "engine_version", "") or None
    unset = engine_defaults(engine, gpu, version)
    deployment = Deployment(
        model=spec.name,
        gpu=gpu.name,
        tensor_parallel=_whole(row, "tp", 1),
        pipeline_parallel=_whole(row, "pp", 1),
        expert_parallel=_whole(row, "ep", 1),
        data_parallel=_whole(row, "dp", 1),
        precision=_text(row, "precision", CHECKPOINT_PRECISION),
        kv_precision=_text(row, "kv_precision", "") or None,
        max_num_seqs=_whole(row, "max_num_seqs", unset.max_num_seqs),
        max_batched_tokens=_whole(row, "max_batched_tokens", unset.max_batched_tokens),
        memory_utilisation=_share(row, "memory_utilisation", unset.memory_utilisation),
        engine=engine,
        engine_version=version,
        max_model_len=_whole(row, "max_model_len", 0) or None,
    )
    named = Catalog({gpu.name: replace(gpu, gpus_per_node=per_node)}, {spec.name: spec})
    return resolve(deployment, named)


def _memory(row: Mapping[str, Any], resolved: Resolved) -> dict[str, Any]:
    """Return the columns on memory, also of what does not fit; sequences are as long as the row's longest request."""
    memory = fit(resolved)
    longest = resolved.deployment.max_model_len
    if longest is None and _given(row.get("isl")) and _given(row.get("osl")):
        longest = math.ceil(_number(row, "isl") + _number(row, "osl"))
    return {
        "weights_gib_per_gpu": memory.weight_bytes / _GIB,
        "kv_gib_per_gpu": max(memory.kv_budget_bytes, 0.0) / _GIB,
        "kv_bytes_per_token": kv_bytes_per_token(resolved.model, resolved.kv_precision),
        "kv_tokens": memory.kv_tokens,
        "max_sequences": None if longest is None else memory.engine_concurrency(longest),
    }


def _predict(
    row: Mapping[str, Any],
    resolved: Resolved,
    coefficients: StepCoefficients | None,
    learned: Calibration | None,
) -> dict[str, Any]:
    workload = Workload(_number(row, "isl"), _number(row, "osl"), cached_share=_share(row, "cached_share", 0.0))
    known = None
    if learned is None:
        coefficients = coefficients or StepCoefficients()
        replica, batch, rate, p50, p95 = _latencies(row, resolved, workload, coefficients)
    else:
        coefficients = learned.prior
        # The local correction depends on the batch, and the batch on the step time: one round settles it.
        replica, batch, _, _, _ = _latencies(row, resolved, workload, learned.coefficients)
        known = learned.at(workload, batch)
        replica, batch, rate, p50, p95 = _latencies(
            row, resolved, workload, learned.scaled(known.step_ratio), known.ttft_ratio
        )
    supported = support(resolved, workload, batch, coefficients.learned, known)
    tpot_ratios, ttft_ratios = supported.tpot_ratios_90, supported.ttft_ratios_90
    # Whether its clients send in waves, its own measurements tell.
    waves = replica.closed_loop_wave_ratio(batch) if known is None and _given(row.get("concurrency")) else 1.0
    return {
        "ttft_ms_p50": p50.ttft_seconds * 1e3,
        "ttft_ms_p95": p95.ttft_seconds * 1e3,
        "tpot_ms_p50": p50.tpot_seconds * 1e3,
        "tpot_ms_p95": p95.tpot_seconds * 1e3,
        "tokens_per_second": rate * workload.output_tokens,
        "fits": True,
        "limit": replica.limit.value if batch >= 0.99 * replica.max_lane_batch else Constraint.DECODE_LATENCY.value,
        "ttft_ms_lower": p50.ttft_seconds * 1e3 * ttft_ratios[0],
        "ttft_ms_upper": p50.ttft_seconds * 1e3 * ttft_ratios[1],
        "tpot_ms_lower": p50.tpot_seconds * 1e3 * tpot_ratios[0] * waves,
        "tpot_ms_upper": p50.tpot_seconds * 1e3 * tpot_ratios[1],
        "confidence": supported.confidence.value,
    }


def _latencies(
    row: Mapping[str, Any],
    resolved: Resolved,
    workload: Workload,
    coefficients: StepCoefficients | None,
    ttft_ratio: float = 1.0,
) -> tuple[ReplicaModel, float, float, Latency, Latency]:
    """Return the replica, its lane batch, its rate and its latencies at p50 and p95 at the row's load."""
    if _given(row.get("concurrency")):
        concurrency = _number(row, "concurrency")
        # A closed loop sends when something finishes: its batch does not fluctuate like that of random arrivals.
        replica = ReplicaModel(resolved, workload, dispersion=0.0, coefficients=coefficients)
        batch = replica.closed_loop_lane_batch(concurrency, ttft_ratio)
        rate = replica.requests_per_second(batch)
        p50, p95 = (_closed(replica, batch, concurrency, rate, level, ttft_ratio) for level in (0.5, 0.95))
        return replica, batch, rate, p50, p95
    if not _given(row.get("request_rate")):
        raise InvalidInput("neither concurrency nor request_rate is given")
    rate = _number(row, "request_rate")
    replica = ReplicaModel(resolved, workload, coefficients=coefficients)
    open_batch = replica.lane_batch(rate)
    if open_batch is None:
        raise InvalidInput(
            f"{rate:g} req/s is more than the {replica.saturation_requests_per_second:.3g} req/s at which "
            f"{replica.limit.value} saturates one replica"
        )
    p50, p95 = (
        replace(latency, ttft_seconds=latency.ttft_seconds * ttft_ratio)
        for latency in (replica.latency(open_batch, 0.5), replica.latency(open_batch, 0.95))
    )
    return replica, open_batch, rate, p50, p95


def _closed(
    replica: ReplicaModel, batch: float, concurrency: float, rate: float, level: float, ttft_ratio: float
) -> Latency:
    latency = replica.latency(batch, level, waiting=False)
    longer = latency.ttft_seconds - replica.latency(batch, 0.5, waiting=False).ttft_seconds
    ttft = ttft_ratio * (replica.closed_loop_ttft_seconds(batch, concurrency) + longer)
    # Clients beyond the batch wait; by Little's law each passes TTFT + decode in concurrency / rate seconds.
    queued = concurrency / rate - replica.decode_seconds(batch)
    return replace(latency, ttft_seconds=max(ttft, queued))


def _given(value: Any) -> bool:
    return not (value is None or value == "" or (isinstance(value, float) and math.isnan(value)))


def _text(row: Mapping[str, Any], key: str, default: str) -> str:
    value = row.get(key)
    return str(value).strip() if _given(value) else default


def _number(row: Mapping[str, Any], key: str) -> float:
    value = row.get(key)
    if not _given(value):
        raise InvalidInput(f"{key} is missing")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InvalidInput(f"{key} must be a number, not {str(value)[:40]!r}") from None
    if not 0 < number < 1e9:
        raise InvalidInput(f"{key} must be in (0, 1e9), not {number!r}")
    return number


def _share(row: Mapping[str, Any], key: str, default: float) -> float:
    if not _given(row.get(key)) or (default == 0.0 and str(row[key]).strip() in ("0", "0.0")):
        return default
    number = _number(row, key)
    if number > 1:
        raise InvalidInput(f"{key} must be in (0, 1], not {number!r}")
    return number


def _whole(row: Mapping[str, Any], key: str, default: int) -> int:
    if not _given(row.get(key)):
        return default
    number = _number(row, key)
    if number % 1:
        raise InvalidInput(f"{key} must be a whole number, not {number!r}")
    return int(number)
