"""What must hold for every size question and every sequence of decisions."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sizing.calibration.table import OUTPUT_COLUMNS, predict_point
from sizing.catalog import Catalog, resolve_gpu, resolve_model
from sizing.catalog.kernels import check_kernel
from sizing.errors import DoesNotFit, NoKernel, SizingError
from sizing.planning.plan import Planner, operating_point
from sizing.replica.memory import fit, resolve, weight_bytes
from sizing.replica.replica_model import ReplicaModel
from sizing.scaling.controller import ReplicaController
from sizing.scaling.situation import Situation
from sizing.types import Demand, Deployment, PolicyConfig, RecommendationState, Slo, Workload

MODELS = st.sampled_from(Catalog().model_names())
GPUS = st.sampled_from(Catalog().gpu_names())
PRECISIONS = st.sampled_from(["bf16", "fp8", "int8", "int4", "nvfp4", "mxfp4"])
SPREADS = st.floats(1.0, 6.0)


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    tokens_in, tokens_out = draw(st.floats(1, 20_000)), draw(st.floats(1, 4_000))
    return Workload(
        tokens_in,
        tokens_out,
        tokens_in**2 * draw(SPREADS),
        tokens_out**2 * draw(SPREADS),
        tokens_in * tokens_out * draw(st.floats(0.5, 2.0)),
        draw(st.floats(0, 1)),
    )


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    model, gpu, precision = draw(MODELS), draw(GPUS), draw(PRECISIONS)
    try:
        check_kernel("vllm", resolve_gpu(gpu), precision, experts=resolve_model(model).experts > 0)
    except NoKernel:
        precision = "bf16"
    return Deployment(
        model,
        gpu,
        tensor_parallel=draw(st.sampled_from([1, 2, 4, 8])),
        pipeline_parallel=draw(st.sampled_from([1, 1, 2])),
        data_parallel=draw(st.sampled_from([1, 1, 2])),
        precision=precision,
        kv_precision=draw(st.sampled_from([None, "fp8"])),
        max_num_seqs=draw(st.integers(1, 2048)),
        max_batched_tokens=draw(st.integers(256, 32_768)),
    )


def built(deployment: Deployment, workload: Workload, catalog: Catalog | None = None) -> ReplicaModel:
    try:
        return ReplicaModel(resolve(deployment, catalog), workload)
    except DoesNotFit:
        assume(False)
        raise


PLANNER = Planner(Deployment("llama-3.1-8b", "h100"), Slo(), max_entries=8)


@given(
    st.lists(st.floats(0, 1e5), min_size=3, max_size=3).map(sorted),
    st.lists(st.floats(0, 1e5), min_size=3, max_size=3).map(sorted),
    st.floats(0.1, 100),
)
def test_more_demand_never_needs_fewer_replicas(less: list[float], added: list[float], cost: float) -> None:
    policy = PolicyConfig(min_replicas=0, max_replicas=10**6, under_to_over_cost=cost)
    small = Demand((0.1, 0.5, 0.9), tuple(less), Workload(1000, 200), 60.0)
    large = replace(small, requests_per_second=tuple(a + b for a, b in zip(less, added, strict=True)))
    first, second = PLANNER.plan(small, policy), PLANNER.plan(large, policy)
    assert first.desired <= second.desired
    for answer in (first, second):
        assert answer.lower <= answer.desired <= answer.upper


@settings(max_examples=60, deadline=None)
@given(deployments(), workloads(), st.floats(1, 3), st.floats(1, 3), st.floats(0.02, 0.98))
def test_a_faster_gpu_is_never_slower(
    deployment: Deployment, workload: Workload, bandwidth: float, compute: float, share: float
) -> None:
    plain = built(deployment, workload)
    gpu = resolve_gpu(deployment.gpu)
    faster = replace(
        gpu,
        memory_bandwidth_bytes_per_second=gpu.memory_bandwidth_bytes_per_second * bandwidth,
        flops_per_second={name: value * compute for name, value in gpu.flops_per_second.items()},
    )
    fast = built(deployment, workload, Catalog(extra_gpus={gpu.name: faster}))
    batch = plain.max_lane_batch * share
    assert fast.step_seconds(batch) <= plain.step_seconds(batch)
    assert fast.saturation_requests_per_second >= plain.saturation_requests_per_second * (1 - 1e-12)


@settings(max_examples=60, deadline=None)
@given(deployments(), workloads(), st.integers(2_000, 10**6), st.floats(1, 4))
def test_a_bigger_kv_cache_never_lowers_concurrency(
    deployment: Deployment, workload: Workload, tokens: int, factor: float
) -> None:
    assume(fit(resolve(deployment)).fits)
    small = built(replace(deployment, observed_kv_tokens=tokens), workload)
    large = built(replace(deployment, observed_kv_tokens=int(tokens * factor)), workload)
    assert large.max_lane_batch >= small.max_lane_batch


@settings(max_examples=60, deadline=None)
@given(deployments(), workloads(), st.floats(0.0, 0.99), st.floats(0.0, 20.0))
def test_percentiles_are_ordered_and_latency_grows_with_load(
    deployment: Deployment, workload: Workload, share: float, dispersion: float
) -> None:
    model = built(deployment, workload)
    model = ReplicaModel(model.resolved, workload, dispersion=dispersion)
    batch = model.max_lane_batch * share
    half, high, higher = (model.latency(batch, level) for level in (0.5, 0.95, 0.99))
    assert half.ttft_seconds <= high.ttft_seconds <= higher.ttft_seconds
    assert half.tpot_seconds <= high.tpot_seconds <= higher.tpot_seconds
    more = model.latency(batch + 0.005 * model.max_lane_batch, 0.95)
    assert more.ttft_seconds >= high.ttft_seconds * (1 - 1e-9)
    assert more.tpot_seconds >= high.tpot_seconds * (1 - 1e-9)


@settings(max_examples=60, deadline=None)
@given(deployments(), workloads(), st.floats(0.01, 0.99))
def test_rate_and_batch_are_inverse(deployment: Deployment, workload: Workload, share: float) -> None:
    model = built(deployment, workload)
    rate = model.saturation_requests_per_second * share
    batch = model.lane_batch(rate)
    assert batch is not None
    assert math.isclose(model.requests_per_second(batch), rate, rel_tol=1e-6)


@given(MODELS, st.sampled_from(["fp8", "int8", "int4", "nvfp4", "mxfp4"]))
def test_fewer_bits_never_weigh_more(name: str, precision: str) -> None:
    model = Catalog().model(name)
    assert sum(weight_bytes(model, precision)) <= sum(weight_bytes(model, "bf16"))
    assert sum(weight_bytes(model, "fp8")) < sum(weight_bytes(model, "bf16"))


@settings(max_examples=60, deadline=None)
@given(deployments(), workloads(), st.floats(0.05, 5), st.floats(0.005, 0.2), st.floats(1, 3))
def test_a_looser_slo_never_carries_less(
    deployment: Deployment, workload: Workload, ttft: float, tpot: float, factor: float
) -> None:
    built(deployment, workload)
    tight = operating_point(deployment, workload, Slo(ttft, tpot))
    loose = operating_point(deployment, workload, Slo(ttft * factor, tpot * factor))
    assert tight.requests_per_second > 0
    if tight.feasible:
        assert loose.feasible
        assert loose.requests_per_second >= tight.requests_per_second * (1 - 1e-6)
        assert tight.at_slo.ttft_seconds <= ttft
        assert tight.at_slo.tpot_seconds <= tpot


STEPS = st.lists(
    st.tuples(
        st.floats(0, 20),  # replicas' worth of demand
        st.one_of(st.none(), st.integers(0, 40)),  # reported replicas
        st.booleans(),  # gap
        st.booleans(),  # warm
        st.booleans(),  # no forecast
        st.booleans(),  # inputs that cannot be believed
        st.one_of(st.none(), st.integers(0, 20_000)),  # queued requests
        st.floats(1, 400),  # seconds since the last decision
    ),
    min_size=1,
    max_size=25,
)
CAPACITY = PLANNER.operating_point(Workload(1000, 200)).requests_per_second


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(0, 3), st.integers(3, 30), st.integers(0, 24))
def test_the_controller_is_safe_and_deterministic(
    steps: list[tuple[float, int | None, bool, bool, bool, bool, int | None, float]], low: int, high: int, restart: int
) -> None:
    policy = PolicyConfig(min_replicas=low, max_replicas=high)
    who = ReplicaController("m", "p", Deployment("llama-3.1-8b", "h100"), Slo(), policy, "h")
    twin = pickle.loads(pickle.dumps(who))
    now, advised = 0.0, None
    for index, (replicas, current, gap, warm, silent, doubtful, queued, waited) in enumerate(steps):
        now += waited
        rate = replicas * CAPACITY
        demand = None if silent else Demand((0.5, 0.9), (rate, rate), Workload(1000, 200), 60.0, None, None, None, rate)
        if index == restart:
            twin = pickle.loads(pickle.dumps(twin))
        situation = Situation(("doubtful",) if doubtful else (), queued_requests=queued)
        advice = who.decide(now, demand, current, gap=gap, warm=warm, situation=situation)
        assert advice == twin.decide(now, demand, current, gap=gap, warm=warm, situation=situation)
        running = [value for value in (current, advised) if value is not None]
        assert low <= advice.desired
        assert advice.lower <= advice.desired <= advice.upper
        if advice.state is RecommendationState.FRESH:
            assert advice.desired <= max([high, *running])
        elif running:
            # Missing telemetry, a missing forecast or a cold start never take anything away.
            assert advice.desired >= max(running)
        if gap or not warm or silent or doubtful:
            assert advice.state is not RecommendationState.FRESH
        if gap or doubtful:
            assert advice.direction != "down"
        advised = advice.desired


JUNK = st.one_of(st.none(), st.text(max_size=8), st.floats(), st.integers(), st.booleans(), st.just({}), st.just([]))


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["model", "gpu", "tp", "pp", "dp", "isl", "osl", "concurrency", "precision"]), JUNK)
)
def test_junk_rows_never_raise(junk: dict[str, object]) -> None:
    row = {"model": "llama-3.1-8b", "gpu": "h100", "isl": 100, "osl": 100, "concurrency": 4} | junk
    assert set(predict_point(row)) == set(OUTPUT_COLUMNS)


_ARCHITECTURE = """num_hidden_layers hidden_size num_attention_heads num_key_value_heads intermediate_size vocab_size
    num_experts num_experts_per_tok layer_types sliding_window kv_lora_rank text_config mlp_only_layers head_dim
    first_k_dense_replace full_attention_interval attention_chunk_size n_shared_experts"""
FIELDS = st.sampled_from(_ARCHITECTURE.split())


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(FIELDS, JUNK))
def test_junk_configurations_are_refused_or_read(junk: dict[str, object]) -> None:
    config = {
        "num_hidden_layers": 4,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 100,
    }
    try:
        model = Catalog().model({**config, **junk})
    except SizingError:
        return
    assert model.total_parameters > 0
