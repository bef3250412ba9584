"""Steps 1 and 2: what is asked of the fleet, and what counts as good."""

from __future__ import annotations

import math

from sizing.explain.model import GIVEN, Fact, Series, Step, Table
from sizing.explain.question import Worked
from sizing.replica.distributions import length_quantile, squared_variation

__all__ = ["objectives", "workload"]

_IDLE = 1e-6
_LOGNORMAL = "lognormal with the given mean and second moment (sizing.replica.distributions)"


def workload(w: Worked) -> Step:
    """Characterise the workload: lengths, rate, burstiness, what is cached."""
    load, demand, replica = w.workload, w.question.demand, w.replica
    rate = w.plan.demand_requests_per_second
    computed = load.input_tokens * (1 - load.cached_share)
    rows = tuple(
        (
            f"p{level * 100:g}",
            length_quantile(max(load.input_tokens, 1.0), load.input_tokens_squared, level),
            length_quantile(max(load.output_tokens, 1.0), load.output_tokens_squared, level),
        )
        for level in (0.5, 0.95, 0.99)
    )
    prompt = computed * w.replica.step.prompt_token_seconds(load.input_tokens / 2)
    decode = load.output_tokens * w.replica.step.sequence_seconds(replica.context_tokens)
    share = prompt / (prompt + decode)
    kind = "prompt-heavy" if share > 0.6 else "output-heavy" if share < 0.4 else "balanced"
    return Step(
        1,
        "Characterise the workload",
        "What arrives, how long, how unevenly?",
        inputs=(
            Fact("mean input", load.input_tokens, "tokens", GIVEN),
            Fact("mean output", load.output_tokens, "tokens", GIVEN),
            Fact("input from the prefix cache", load.cached_share * 100, "%", GIVEN),
            Fact("squared variation of input", _variation(load.input_tokens, load.input_tokens_squared), "", GIVEN),
            Fact("squared variation of output", _variation(load.output_tokens, load.output_tokens_squared), "", GIVEN),
            Fact("arrivals' index of dispersion", demand.dispersion, "(1: Poisson)", GIVEN),
        ),
        results=(
            Fact("rate to plan for", rate, "req/s", f"p{w.plan.demand_quantile * 100:.3g} of the demand (step 12)"),
            Fact("prompt tokens to compute", rate * computed, "tokens/s", "rate · input · (1 − cached share)"),
            Fact("output tokens", rate * load.output_tokens, "tokens/s", "rate · output"),
            Fact("mean context while decoding", replica.context_tokens, "tokens", "(E[n·m] + E[m²]/2) / E[m]"),
            Fact("prompts' share of the work", share * 100, "%", f"seconds added to steps; {w.step_source}"),
        ),
        conclusion=f"The workload is {kind}: prompts take {share:.0%} of what requests add to the steps.",
        tables=(Table("Lengths", ("quantile", "input tokens", "output tokens"), rows, _LOGNORMAL),),
    )


def _variation(mean: float, squared: float | None) -> float:
    return squared_variation(max(mean, 1.0), squared)


def objectives(w: Worked) -> Step:
    """Fix the objectives, and see what an idle replica can do."""
    slo, replica = w.question.slo, w.replica
    idle = replica.latency(replica.max_lane_batch * _IDLE, slo.percentile, slo.percentile)
    idle_ttft = idle.ttft_seconds * w.known.ttft_ratio
    percentile = f"p{slo.percentile * 100:g}"
    results = [
        Fact(
            f"{percentile} TTFT of an idle replica", idle_ttft, "s", f"{w.step_source}; longest prompts at {percentile}"
        ),
        Fact(f"{percentile} TPOT of an idle replica", idle.tpot_seconds * 1e3, "ms", w.step_source),
    ]
    if slo.ttft_seconds is not None and slo.tpot_seconds is not None:
        total = slo.ttft_seconds + max(w.workload.output_tokens - 1, 0) * slo.tpot_seconds
        results.append(Fact("end-to-end time allowed", total, "s", "TTFT + (output − 1) · TPOT"))
    if w.point.feasible:
        conclusion = "An idle replica meets the objectives; what is left is room for load."
    else:
        conclusion = f"Infeasible: {w.point.message}. The rest of this report plans for a relaxed objective."
    return Step(
        2,
        "Fix the objectives",
        "Which latency, at which percentile, and can this deployment reach it at all?",
        inputs=(
            Fact("TTFT, from arrival", slo.ttft_seconds, "s", GIVEN),
            Fact("TPOT", None if slo.tpot_seconds is None else slo.tpot_seconds * 1e3, "ms", GIVEN),
            Fact("percentile of both", slo.percentile * 100, "%", GIVEN),
        ),
        results=tuple(results),
        conclusion=conclusion,
    )


def finite(values: tuple[float, ...]) -> tuple[float, ...]:
    """Replace what is not finite by the largest finite value, so that charts can be drawn."""
    known = [value for value in values if math.isfinite(value)]
    top = max(known, default=0.0)
    return tuple(value if math.isfinite(value) else top for value in values)


def series(name: str, x: tuple[float, ...], y: tuple[float, ...]) -> Series:
    """Return a line of finite values."""
    return Series(name, x, finite(y))
