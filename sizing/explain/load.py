"""Steps 9 to 11: batching, the KV cache's sharing, the curve and the operating point."""

from __future__ import annotations

from dataclasses import replace

from sizing.errors import SizingError
from sizing.explain.model import GIVEN, Chart, Fact, Step, Table, Value
from sizing.explain.needs import series
from sizing.explain.question import Worked
from sizing.explain.speed import choices
from sizing.explain.variants import apart, speculative
from sizing.planning.known_point import error_text, measured_load
from sizing.replica.replica_model import MAX_UTILISATION, ReplicaModel
from sizing.wording import words

__all__ = ["batching", "curve", "kv_optimisation"]

_ENGINE = "given, or the engine's default on this GPU (sizing.catalog.engines)"
_BUDGETS = (2048, 4096, 8192, 16384, 32768)


def batching(w: Worked) -> Step:
    """Batching: what bounds the batch, and what the token budget of a step trades."""
    deployment, replica = w.question.deployment, w.replica
    rows: list[tuple[Value, ...]] = []
    chosen = None
    for budget in sorted({*_BUDGETS, deployment.max_batched_tokens}):
        changed = replace(w.resolved, deployment=replace(deployment, max_batched_tokens=budget))
        try:
            model = ReplicaModel(
                changed, w.workload, dispersion=w.question.demand.dispersion, coefficients=w.known.coefficients
            )
        except SizingError:
            continue
        full_step = model.step.base_seconds(budget) + budget * model.step.prompt_token_seconds(
            w.workload.input_tokens / 2
        )
        chosen = len(rows) if budget == deployment.max_batched_tokens else chosen
        rows.append((budget, model.saturation_requests_per_second, model.limit, full_step * 1e3))
    limits = {name: limit * replica.lanes for name, limit in replica.limits.items()}
    prompts = w.lane_batch * w.workload.input_tokens * (1 - w.workload.cached_share) / max(w.workload.output_tokens, 1)
    return Step(
        9,
        "Batching",
        "How many sequences run at once, and what does a step hold?",
        inputs=(
            Fact("sequences that the engine allows", deployment.max_num_seqs, "per scheduler", _ENGINE),
            Fact("tokens in one step", deployment.max_batched_tokens, "tokens", _ENGINE),
        ),
        results=(
            *(
                Fact(f"batch limit by {name.value.replace('_', ' ')}", limit, "sequences per replica", source)
                for (name, limit), source in zip(
                    limits.items(),
                    (
                        "KV capacity / (mean context + half a block)",
                        "the engine's setting",
                        "token budget / (1 + computed prompt tokens per output token)",
                    ),
                    strict=True,
                )
            ),
            Fact("prompt tokens among decodes", prompts, "tokens per step", "batch · computed input / output"),
        ),
        conclusion=f"At most {limits[replica.limit]:.0f} sequences: {replica.limit.value.replace('_', ' ')} binds.",
        tables=(
            Table(
                "Token budget of a step",
                ("tokens per step", "req/s at saturation", "what bounds the batch", "longest step, ms"),
                tuple(rows),
                f"a step full of prompt tokens delays every decode; {w.step_source}",
                chosen,
            ),
            apart(w),
        ),
    )


def kv_optimisation(w: Worked) -> Step:
    """The KV cache's sharing: what prefix caching is worth."""
    shares = sorted({0.0, 0.2, 0.4, 0.6, 0.8, w.workload.cached_share})
    outcomes = [
        w.outcome(w.option(f"{share:.0%} from the cache", workload=replace(w.workload, cached_share=share)))
        for share in shares
    ]
    now = outcomes[shares.index(w.workload.cached_share)]
    more = [o for o, share in zip(outcomes, shares, strict=True) if share > w.workload.cached_share]
    better = next((o for o in more if now.replicas and o.replicas is not None and o.replicas < now.replicas), None)
    saved = (now.replicas or 0) - (better.replicas or 0) if better else 0
    return Step(
        10,
        "KV optimisation",
        "What is a better prefix-cache hit rate worth?",
        inputs=(
            Fact("input from the prefix cache", w.workload.cached_share * 100, "%", GIVEN),
            Fact(
                "speculative decoding",
                "not counted on",
                "",
                "its gain shrinks to nothing as the batch fills: EAGLE-3 "
                "saturated at 73 req/s, without it at 177 (kubernetes-sigs/inference-perf, demos/kubecon-na-2025)",
            ),
        ),
        results=(
            Fact("replicas at this hit rate", now.replicas, "", "the table below"),
            Fact("replicas with 80 % from the cache", outcomes[shares.index(0.8)].replicas, "", "the table below"),
        ),
        conclusion=(
            f"{better.option.name} would save {saved} replica{'' if saved == 1 else 's'}."
            if better
            else "A better hit rate would not save a whole replica."
        ),
        tables=(choices("Prefix cache", outcomes, shares.index(w.workload.cached_share), w), speculative(w)),
    )


def curve(w: Worked) -> Step:
    """The latency–throughput curve, and the most that one replica carries within the objectives."""
    point, slo = w.point, w.question.slo
    loads = [measured_load(load, w.known.ttft_ratio) for load in w.replica.curve(16)]
    rates = tuple(load.requests_per_second for load in loads)
    rows: list[tuple[Value, ...]] = [
        (
            load.requests_per_second,
            load.utilisation * 100,
            load.batch,
            load.p50.ttft_seconds,
            load.p95.ttft_seconds,
            load.p50.tpot_seconds * 1e3,
            load.p95.tpot_seconds * 1e3,
            load.decode_tokens_per_second,
        )
        for load in loads
    ]
    mark = (("operating point", point.requests_per_second),)
    top = point.at_slo.ttft_seconds if slo.ttft_seconds is None else slo.ttft_seconds

    def clipped(values: list[float], limit: float) -> tuple[float, ...]:
        return tuple(min(value, 3 * limit) for value in values)

    tpot_limit = (point.at_slo.tpot_seconds if slo.tpot_seconds is None else slo.tpot_seconds) * 1e3
    columns = ("req/s", "% of saturation", "batch", "TTFT p50, s", "TTFT p95, s", "TPOT p50, ms", "TPOT p95, ms")
    return Step(
        11,
        "Curve and operating point",
        "How much does one replica carry within the objectives?",
        inputs=(
            Fact(
                "largest share of saturation planned for",
                MAX_UTILISATION * 100,
                "%",
                "margin of llm-inferno/queue-analysis",
            ),
            Fact("error (10–90 %)", error_text(w.known), "", w.step_source),
            Fact("measured over predicted TTFT", w.known.ttft_ratio, "×", w.step_source),
        ),
        results=(
            Fact(
                "operating point",
                point.requests_per_second,
                "req/s per replica",
                "the largest load within objectives and margin",
            ),
            Fact(
                "saturation",
                point.saturation_requests_per_second,
                "req/s per replica",
                "every batch full; Little's law",
            ),
            Fact("batch there", point.batch, "sequences", "mean-field fixed point"),
            Fact(f"TTFT there, p{slo.percentile * 100:g}", point.at_slo.ttft_seconds, "s", "prompt lengths and waits"),
            Fact(f"TPOT there, p{slo.percentile * 100:g}", point.at_slo.tpot_seconds * 1e3, "ms", "batch fluctuation"),
            Fact("output there", point.decode_tokens_per_second, "tokens/s per replica", "rate · output"),
            Fact("what binds", words(point.constraint.value), "", "what a little more load would break first"),
            Fact("confidence", w.known.confidence.value, "", w.step_source),
        ),
        conclusion=point.message + ".",
        tables=(Table("One replica", (*columns, "output tokens/s"), tuple(rows), w.step_source),),
        charts=(
            Chart(
                "line",
                "Time to first token",
                "req/s per replica",
                "s",
                (
                    series("p50", rates, clipped([load.p50.ttft_seconds for load in loads], top)),
                    series("p95", rates, clipped([load.p95.ttft_seconds for load in loads], top)),
                ),
                () if slo.ttft_seconds is None else (("objective", slo.ttft_seconds),),
                mark,
            ),
            Chart(
                "line",
                "Time per output token",
                "req/s per replica",
                "ms",
                (
                    series("p50", rates, clipped([load.p50.tpot_seconds * 1e3 for load in loads], tpot_limit)),
                    series("p95", rates, clipped([load.p95.tpot_seconds * 1e3 for load in loads], tpot_limit)),
                ),
                () if slo.tpot_seconds is None else (("objective", slo.tpot_seconds * 1e3),),
                mark,
            ),
        ),
    )
