"""One line of Prometheus' text format: what it is called, its labels and its value. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from pipeline.errors import CodecError

__all__ = ["ExpositionSample", "read_sample"]

_MAX_LINE = 8_192
_MAX_VALUE = 2.0**53  # above it a float does not hold every whole number


class ExpositionSample(NamedTuple):
    """One sample; ``dated``: its writer gave it a time of its own, so that its age is not that of the answer."""

    name: str
    labels: Mapping[str, str]
    value: float
    dated: bool


def read_sample(line: str) -> ExpositionSample:
    """Return the sample of one line of counts or sums.

    Raises:
        CodecError: it is no sample, or its value is negative, not finite or beyond 2⁵³.
    """
    try:
        if len(line) > _MAX_LINE:
            raise ValueError("too long")
        (family,) = text_string_to_metric_families(line + "\n")
        (sample,) = family.samples
        value = float(sample.value)
    except Exception as error:  # the parser promises no kind of error for what is no exposition
        raise CodecError(f"malformed line {line[:120]!r}: {str(error)[:80]}") from error
    if not (math.isfinite(value) and 0.0 <= value <= _MAX_VALUE):
        raise CodecError(f"impossible value in {line[:120]!r}")
    return ExpositionSample(sample.name, sample.labels, value, sample.timestamp is not None)
