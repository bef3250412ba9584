"""The shape of demand: shares counted by hand, intervals that cover, routing that never invents a saving."""

import numpy as np
import pytest

from sizing.block_bootstrap import Blocks
from sizing.catalog.gpus import Price
from sizing.demand_shape import RequestColumns, demand_shape
from sizing.errors import InvalidInput
from sizing.planning.length_routing import DeploymentChoice, off_peak_savings, route_savings, split_cost
from sizing.types import Deployment, Slo

DAY = 86_400.0
MONDAY = 4 * DAY  # 5 January 1970
LARGE = DeploymentChoice(Deployment("llama-3.1-8b", "h100-sxm"), Price(4.0, "given", "2026-11"), Slo(2.0, 0.06))
SMALL = DeploymentChoice(Deployment("llama-3.1-8b", "h100-sxm", precision="fp8"), LARGE.price, LARGE.slo)


def trace(days=14, per_hour=400, seed=1):
    random = np.random.default_rng(seed)
    at = np.sort(MONDAY + random.uniform(0, days * DAY, days * 24 * per_hour))
    short = random.random(at.size) < 0.6
    given, got = np.where(short, 200.0, 3000.0), np.where(short, 50.0, 400.0)
    regions = np.where(random.random(at.size) < 0.25, "eu", "us")
    return RequestColumns(at, given, got, given / 4, np.full(at.size, np.nan), {"region": regions})


def test_shares_by_hand():
    at = MONDAY + 3600.0 * np.array([0.5, 1.5, 25.5, 25.6])
    columns = RequestColumns(
        at,
        np.array([100.0, 1000.0, 200.0, 3000.0]),
        np.array([10.0, 100.0, 300.0, 40.0]),
        np.array([0.0, 500.0, np.nan, 1500.0]),
        np.array([0.0, 50.0, 100.0, 0.0]),
    )
    told = demand_shape(columns)
    by_input = {row.tokens: row for row in told.by_input}
    assert by_input[256].requests.value == 0.5
    assert by_input[256].input_tokens.value == pytest.approx(300 / 4300)
    assert by_input[1024].output_tokens.value == pytest.approx(410 / 450)
    assert (told.cached_told_share, told.cached_share.value) == (0.75, pytest.approx(2000 / 4100))
    assert told.reused_share.value == pytest.approx(2 / 3)
    assert told.reasoning_share.value == pytest.approx(150 / 450)
    # The first and the last hour are not whole; between them are 24 with one request, on Monday and Tuesday.
    assert told.shape.weekdays[2:] == (None,) * 5
    assert told.shape.hours[1] == 24.0
    with pytest.raises(InvalidInput, match="in order of arrival"):
        demand_shape(RequestColumns(at[::-1], columns.input_tokens, columns.output_tokens))


def test_intervals_hold_the_truth_about_nine_times_in_ten():
    covered = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        at = np.sort(random.uniform(0, 30 * DAY, 3000))
        # The share of short requests changes from day to day around 0.4.
        daily = np.clip(random.normal(0.4, 0.1, 31), 0, 1)
        share = Blocks(at).share(random.random(3000) < daily[(at // DAY).astype(int)])
        covered += share.lower <= 0.4 <= share.upper
    assert 45 <= covered <= 60


def test_a_trace_of_one_moment_has_no_interval():
    told = demand_shape(RequestColumns(np.array([5.0]), np.array([10.0]), np.array([1.0])))
    assert (told.mean_input_tokens.value, told.mean_input_tokens.lower) == (10.0, None)
    assert told.cached_share is None


def test_routing_to_the_same_replica_saves_nothing_at_scale_but_what_a_mixture_costs():
    columns = trace(days=2)
    (route,) = route_savings(columns, LARGE, LARGE, [(512, None)])
    assert route.requests.value == pytest.approx(0.6, abs=0.02)
    # Alone or apart, the same GPUs serve the same requests: what differs is how lengths mix within a replica.
    assert abs(route.saving_at_scale.value) < 0.25
    everything, _ = route_savings(columns, LARGE, LARGE, [(4096, None), (4096, 1024)])
    assert everything.saving.value == everything.saving_at_scale.value == 0.0


def test_a_quantized_model_for_everything_costs_less_and_off_peak_lies_between():
    columns = trace(days=2, per_hour=4000)
    (route,) = route_savings(columns, LARGE, SMALL, [(4096, None)])
    assert 0 < route.saving_at_scale.value < 1
    assert route.saving.lower <= route.saving.value <= route.saving.upper
    quiet = off_peak_savings(columns, LARGE, SMALL)
    assert [one.below_share for one in quiet] == [0.25, 0.5, 0.75]
    assert all(0 <= one.saving.value <= route.saving.value for one in quiet)


def test_replicas_for_each_region_cost_no_less():
    assert split_cost(trace(days=1), "region", LARGE).dollars_ratio.value >= 1.0


def test_what_cannot_serve_a_part_tells_no_saving():
    slow = DeploymentChoice(LARGE.deployment, LARGE.price, Slo(0.001, 0.06))
    assert route_savings(trace(days=1), slow, SMALL, [(512, None)]) == ()
