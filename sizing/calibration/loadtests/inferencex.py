"""InferenceX (InferenceMAX): ``agg_….json`` of one run, or a list of them; seconds, a closed loop of ``conc`` clients.

Copies with the same names in milliseconds exist. Interactivity (``median_intvty``, tokens/s of one user: 1 / TPOT) and
the output tokens/s of all GPUs (conc · tokens / E2E) tell them apart.

The figures are medians, as InferenceX itself publishes; means where a file has no medians. ``isl`` and ``osl`` are the
nominal lengths; files without them (before 2025-10) give none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sizing.calibration.loadtests.fields import at, first, number, scaled, text
from sizing.calibration.loadtests.types import LoadKind, Stage, Subject
from sizing.errors import InvalidInput

__all__ = ["InferenceX"]

#: Nobody publishes a server that is slower.
_MOST_TPOT_SECONDS = 1.0


class InferenceX:
    """Reader of InferenceX aggregates: one stage per run."""

    name = "inferencex"

    def detect(self, report: Any) -> bool:
        """As ``Reader.detect``."""
        head = report[0] if isinstance(report, list) and report else report
        return isinstance(head, Mapping) and "conc" in head and bool({"median_tpot", "mean_tpot"} & set(head))

    def stages(self, report: Any) -> tuple[Sequence[Stage], Subject, str | None]:
        """As ``Reader.stages``."""
        if not self.detect(report):
            raise InvalidInput("not an InferenceX result: it has no 'conc' with 'median_tpot'")
        runs = report if isinstance(report, list) else [report]
        if any(
            run.get("disagg") is True or run.get("is_multinode") is True for run in runs if isinstance(run, Mapping)
        ):
            raise InvalidInput(
                "this InferenceX result is of a deployment with separate prefill and decode workers; points are "
                "learned from replicas that do both"
            )
        subjects = {_subject(run) for run in runs}
        if len(subjects) > 1:
            raise InvalidInput(
                f"this InferenceX file has runs of {len(subjects)} deployments; import the agg_….json files of one"
            )
        return [_stage(i, run, len(runs)) for i, run in enumerate(runs, 1)], subjects.pop(), None


def _subject(run: Any) -> Subject:
    framework = (text(at(run, "framework")) or "").lower()
    engine = next((name for key, name in _ENGINES.items() if key in framework), None)
    tensor_parallel = number(at(run, "tp"))
    return Subject(
        model=text(at(run, "model")),
        engine=engine,
        gpu=text(at(run, "hw")),
        tensor_parallel=int(tensor_parallel) if tensor_parallel else None,
        precision=text(at(run, "precision")),
    )


_ENGINES = {"sglang": "sglang", "trt": "tensorrt-llm", "vllm": "vllm"}


def _stage(position: int, run: Any, runs: int) -> Stage:
    def metric(name: str) -> tuple[float | None, float | None]:
        median, mean = number(at(run, f"median_{name}")), number(at(run, f"mean_{name}"))
        return (median, mean) if median is not None else (mean, None)

    name, limit = "the run" if runs == 1 else f"run {position}", number(at(run, "conc"))
    unit = _unit_seconds(name, run)

    def seconds(name: str) -> tuple[float | None, float | None]:
        best, other = metric(name)
        return scaled(best, unit), scaled(other, unit)

    converted = f"{name}: its latencies are read as milliseconds: its own throughput or interactivity says so"
    return Stage(
        name,
        input_tokens=number(at(run, "isl")),
        output_tokens=number(at(run, "osl")),
        e2e_seconds=seconds("e2el"),
        ttft_seconds=seconds("ttft"),
        tpot_seconds=seconds("tpot")[0],
        concurrency=limit,
        kind=LoadKind.CLOSED,
        concurrency_limit=limit,
        speculative=(text(at(run, "spec_decoding")) or "none").lower() not in ("none", "false", "off"),
        notes=(converted,) if unit != 1.0 else (),
    )


def _unit_seconds(name: str, run: Any) -> float:
    """The seconds that latencies of a run are multiples of: 1, or 1e-3 where the other figures of the run say so.

    Raises:
        InvalidInput: nothing tells, and a TPOT in seconds would be implausible.
    """
    tpots = ((number(at(run, f"{s}_tpot")), number(at(run, f"{s}_intvty"))) for s in ("median", "mean"))
    evidence = [tpot * rate for tpot, rate in tpots if tpot is not None and rate is not None]
    tpot = first(number(at(run, "median_tpot")), number(at(run, "mean_tpot")))
    clients, each, gpus = (number(at(run, key)) for key in ("conc", "output_tput_per_gpu", "tp"))
    if tpot is not None and clients and each and gpus:
        evidence.append(each * gpus * tpot / clients)
    for ratio in evidence:
        if 100.0 < ratio < 10_000.0:
            return 1e-3
        if ratio < 10.0:
            return 1.0
    if tpot is not None and tpot > _MOST_TPOT_SECONDS:
        raise InvalidInput(f"{name}: a TPOT of {tpot:.3g} s is implausible; are its latencies milliseconds?")
    return 1.0
