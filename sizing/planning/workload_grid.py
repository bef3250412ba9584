"""Workloads rounded to a grid of 1 %, so that what is remembered of one answers for all near it."""

from __future__ import annotations

import math

from sizing.types import Workload

__all__ = ["on_grid", "rounded"]

_LOG_GRID = 0.01


def on_grid(value: float, coarser: float = 1.0) -> float:
    """Round a positive number to a logarithmic grid of 1 %, or one coarser by a factor; others stay as they are."""
    step = coarser * _LOG_GRID
    if not 0 < value < math.inf:
        return value
    return math.exp(round(math.log(value) / step) * step)


def rounded(workload: Workload) -> Workload:
    """Round lengths to a grid; second moments by their ratio to the means, so that constant lengths stay constant."""
    mean_in, mean_out = on_grid(workload.input_tokens), on_grid(workload.output_tokens)

    def moment(value: float | None, exact: float, rounded: float) -> float | None:
        return None if value is None or exact <= 0 else rounded * round(on_grid(value / exact), 2)

    return Workload(
        input_tokens=mean_in,
        output_tokens=mean_out,
        input_tokens_squared=moment(workload.input_tokens_squared, workload.input_tokens**2, mean_in**2),
        output_tokens_squared=moment(workload.output_tokens_squared, workload.output_tokens**2, mean_out**2),
        input_output_product=moment(
            workload.input_output_product, workload.input_tokens * workload.output_tokens, mean_in * mean_out
        ),
        cached_share=round(workload.cached_share, 2),
        input_quantile=None if workload.input_quantile is None else on_grid(workload.input_quantile),
        output_quantile=None if workload.output_quantile is None else on_grid(workload.output_quantile),
    )
