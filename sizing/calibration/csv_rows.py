"""Measured points as rows of a table: written from load tests, read back, matched to a deployment, reviewed.

The columns are those of ``sizing.calibration.table`` with ``tpot_ms`` and ``ttft_ms`` added; ``source`` says where a
row is from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sizing.calibration.calibrator import Calibration
from sizing.calibration.measurement import ObservedPoint, check_point, identity
from sizing.calibration.table import Calibrations, calibrations, predict_point
from sizing.catalog import Catalog
from sizing.replica.memory import Resolved
from sizing.types import Deployment

__all__ = ["OBSERVATION_COLUMNS", "Review", "calibration_for", "observation_row", "review"]

OBSERVATION_COLUMNS = (
    "id",
    "model",
    "gpu",
    "tp",
    "pp",
    "ep",
    "dp",
    "precision",
    "kv_precision",
    "engine",
    "isl",
    "osl",
    "concurrency",
    "request_rate",
    "tpot_ms",
    "ttft_ms",
    "cached_share",
    "source",
)
#: Leaving out one row at a time is quadratic: more rows of one deployment are reviewed without it.
MAX_REVIEWED = 200


def observation_row(deployment: Deployment, point: ObservedPoint, name: str, source: str) -> dict[str, Any]:
    """Return the row of one measured point; of the two loads, the one that the clients held.

    Raises:
        InvalidInput: the point cannot be.
    """
    check_point(point)
    closed = point.requests_per_second is None or (point.closed_loop and point.concurrency is not None)
    return {
        "id": name,
        "model": deployment.model,
        "gpu": deployment.gpu,
        "tp": deployment.tensor_parallel,
        "pp": deployment.pipeline_parallel,
        "ep": deployment.expert_parallel,
        "dp": deployment.data_parallel,
        "precision": deployment.precision,
        "kv_precision": deployment.kv_precision or "",
        "engine": deployment.engine,
        "isl": _round(point.input_tokens),
        "osl": _round(point.output_tokens),
        "concurrency": _round(point.concurrency) if closed else "",
        "request_rate": "" if closed else _round(point.requests_per_second),
        "tpot_ms": _round(point.tpot_seconds * 1e3),
        "ttft_ms": "" if point.ttft_seconds is None else _round(point.ttft_seconds * 1e3),
        "cached_share": _round(point.cached_share) if point.cached_share else "",
        "source": source,
    }


def _round(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def calibration_for(resolved: Resolved, learned: Calibrations) -> Calibration | None:
    """Return what was learned about a deployment; None where nothing of it was measured.

    The same deployment is: model, GPU, parallel shape, precisions and engine; scheduler limits do not matter.
    """
    wanted = identity(resolved)
    return next((found for found in learned.values() if identity(found.resolved) == wanted), None)


@dataclass(frozen=True, slots=True)
class Review:
    """One measured row against predictions; times in milliseconds, None where there is none.

    ``before`` is without any measurement, ``left_out`` with all other rows of the same deployment: an honest error of
    the calibration, None with fewer than two rows.
    """

    id: str
    tpot_ms: float
    before_tpot_ms: float | None
    left_out_tpot_ms: float | None
    ttft_ms: float | None
    before_ttft_ms: float | None
    left_out_ttft_ms: float | None


def review(rows: Sequence[Mapping[str, Any]], catalog: Catalog | None = None) -> dict[int, list[Review]]:
    """Return what each row says, grouped as ``calibrations(rows)`` groups them, by position in its values.

    Raises:
        SizingError: a row cannot be understood.
    """
    groups: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        (found,) = calibrations([row], catalog=catalog).values()
        groups.setdefault(identity(found.resolved), []).append(row)
    return {index: [_one(group, i, catalog) for i in range(len(group))] for index, group in enumerate(groups.values())}


def _one(group: Sequence[Mapping[str, Any]], index: int, catalog: Catalog | None) -> Review:
    row = group[index]
    asked = {key: value for key, value in row.items() if key not in ("tpot_ms", "ttft_ms")}
    before = predict_point(asked, catalog=catalog)
    left_out: Mapping[str, Any] = {}
    if 1 < len(group) <= MAX_REVIEWED:
        others = calibrations(_without(group, index), catalog=catalog)
        left_out = predict_point(asked, catalog=catalog, calibrations=others)
    return Review(
        id=str(row.get("id") or index + 1),
        tpot_ms=float(row["tpot_ms"]),
        before_tpot_ms=before["tpot_ms_p50"],
        left_out_tpot_ms=left_out.get("tpot_ms_p50"),
        ttft_ms=float(row["ttft_ms"]) if row.get("ttft_ms") else None,
        before_ttft_ms=before["ttft_ms_p50"],
        left_out_ttft_ms=left_out.get("ttft_ms_p50"),
    )


def _without(group: Sequence[Mapping[str, Any]], index: int) -> Iterable[Mapping[str, Any]]:
    return (row for i, row in enumerate(group) if i != index)
