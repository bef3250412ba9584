"""Which reader reads a report, and reading it whole."""

from __future__ import annotations

from typing import Any

from sizing.calibration.loadtests.aiperf import AiPerf, GenAiPerf
from sizing.calibration.loadtests.bench_serving import SglangBench, VllmBench
from sizing.calibration.loadtests.guidellm import GuideLlm
from sizing.calibration.loadtests.inference_perf import InferencePerf
from sizing.calibration.loadtests.inferencex import InferenceX
from sizing.calibration.loadtests.llmd import LlmdReport
from sizing.calibration.loadtests.llmperf import LlmPerf
from sizing.calibration.loadtests.measure import measured_point
from sizing.calibration.loadtests.types import LoadKind, LoadTest, Reader
from sizing.calibration.loadtests.unreadable import unreadable
from sizing.calibration.measurement import ObservedPoint
from sizing.errors import InvalidInput

__all__ = ["READERS", "read_report", "reader_of"]

#: In the order in which they are asked; no two accept the same report.
READERS: tuple[Reader, ...] = (
    GuideLlm(),
    InferencePerf(),
    AiPerf(),
    GenAiPerf(),
    VllmBench(),
    SglangBench(),
    LlmPerf(),
    InferenceX(),
    LlmdReport(),
)


def reader_of(report: Any, tool: str | None = None) -> Reader:
    """Return the reader of a report: the one named ``tool``, else the one that recognises it.

    Raises:
        InvalidInput: no tool of that name, or no reader recognises the report; what is known about it is in the text.
    """
    if tool is not None:
        named = next((reader for reader in READERS if reader.name == tool), None)
        if named is None:
            raise InvalidInput(f"unknown load-test tool {tool!r}; known: {', '.join(r.name for r in READERS)}")
        return named
    found = next((reader for reader in READERS if reader.detect(report)), None)
    if found is not None:
        return found
    raise InvalidInput(unreadable(report, [reader.name for reader in READERS]))


def read_report(
    report: Any,
    *,
    tool: str | None = None,
    replicas: int = 1,
    kind: LoadKind | None = None,
    cached_share: float | None = None,
) -> LoadTest:
    """Return what a parsed report measured; loads are divided by ``replicas``.

    ``tool`` names the reader (recognised by the report's keys without it). ``kind`` and ``cached_share`` win over what
    the report says.

    Raises:
        InvalidInput: it is no report that can be read, or holds no usable stage; the text says why.
    """
    if cached_share is not None and not 0 <= cached_share <= 1:
        raise InvalidInput(f"cached_share must be in [0, 1], got {cached_share!r}")
    reader = reader_of(report, tool)
    stages, subject, version = reader.stages(report)
    points: list[ObservedPoint] = []
    notes: list[str] = []
    problems: list[str] = []
    for stage in stages:
        try:
            point, remarks = measured_point(stage, replicas=replicas, kind=kind, cached_share=cached_share)
        except InvalidInput as error:
            text = str(error)
            problems.append(text if text.startswith(stage.name) else f"{stage.name}: {text}")
            continue
        points.append(point)
        notes.extend(remarks)
    if not points:
        raise InvalidInput(
            f"no usable measurement in the {reader.name} report: {'; '.join(problems[:5]) or 'it is empty'}"
        )
    return LoadTest(reader.name, version, tuple(points), subject, (*notes, *(f"left out: {text}" for text in problems)))
