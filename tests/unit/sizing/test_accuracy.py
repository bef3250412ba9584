"""Fits the step coefficients on end-to-end measurements and measures how far predictions are off.

The loaders and the fit behind ``StepCoefficients`` are those of benchmarks/sizing, which prints the full tables.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from sizing.calibration.global_fit import builtin_learned, features
from sizing.calibration.table import calibrations, predict_point
from sizing.errors import SizingError
from sizing.replica.memory import resolve
from sizing.replica.replica_model import ReplicaModel
from sizing.replica.step_time import StepCoefficients
from sizing.simulate import Frontend, simulate
from sizing.types import Deployment, Workload
from tests.unit.sizing.benchmark_modules import benchmark_module

data = benchmark_module("measurements")
fit = benchmark_module("fit")
held_out = benchmark_module("held_out")
conformal = benchmark_module("conformal").conformal
timelines = benchmark_module("simulate")
DATA = data.DATA


def read(loader: Callable[[], Any]) -> Any:
    try:
        return loader()
    except FileNotFoundError:
        pytest.skip("the measured data sets are not beside this checkout")


@cache
def silicon() -> list[Any]:
    return read(data.silicon)[0]


@cache
def guidellm() -> list[tuple[float, float, float, float, float]]:
    return read(data.guidellm)


@cache
def design() -> Any:
    return fit.Design(silicon(), guidellm())


@cache
def without_qwen() -> Any:
    """What is learned without any row of Qwen3-32B; one fit takes seconds, the benchmark makes all six."""
    return design().learn("qwen3-32b")


@pytest.mark.slow
def test_the_shipped_numbers_are_those_of_the_fit() -> None:
    """The step factors, made anew from the data, give the same step times as the shipped ones."""
    made = design()
    found = made.learn().step
    shipped = builtin_learned().step
    assert shipped.features == found.features
    for resolved, columns in zip(made.resolved[::40], made.columns[::40], strict=False):
        values = features(resolved)
        assert columns @ np.array(found.factors(values)) == pytest.approx(
            columns @ np.array(shipped.factors(values)), rel=0.05
        )


@pytest.mark.slow
def test_an_unseen_architecture() -> None:
    """Batch from the measured times, Qwen3-32B in no fit; the benchmark prints every architecture."""
    made, learned = design(), without_qwen()
    chosen = [index for index, row in enumerate(made.rows) if row.model == "qwen3-32b"]
    predicted = np.array([made.columns[i] @ np.array(learned.step.factors(features(made.resolved[i]))) for i in chosen])
    errors = np.abs(predicted / made.seconds[chosen] - 1)
    print(len(chosen), np.median(errors), errors.mean(), np.quantile(errors, 0.9))
    assert np.median(errors) <= 0.10
    assert errors.mean() <= 0.15
    assert np.quantile(errors, 0.9) <= 0.32


def test_closed_loop_rows_end_to_end() -> None:
    """From concurrency alone, as ``size --points`` predicts; every fifth row, in sample."""
    rows = silicon()[::5]
    answers = held_out.predictions(rows, dict.fromkeys({row.model for row in rows}, builtin_learned()))
    assert len(answers) >= 0.99 * len(rows)
    tpot = np.array([answer["tpot_ms_p50"] / row.tpot_seconds / 1e3 for row, answer in answers])
    ttft = np.array([answer["ttft_ms_p50"] / row.ttft_seconds / 1e3 for row, answer in answers])
    short = np.array([row.ttft_seconds < 1.0 for row, _ in answers])
    print(np.median(np.abs(tpot - 1)), np.abs(tpot - 1).mean(), np.median(np.abs(ttft[short] - 1)))
    assert np.median(np.abs(tpot - 1)) <= 0.10
    assert np.abs(tpot - 1).mean() <= 0.16
    assert np.median(np.abs(ttft[short] - 1)) <= 0.30
    for name in ("tpot", "ttft"):
        inside = [
            answer[f"{name}_ms_lower"] / 1e3 <= getattr(row, f"{name}_seconds") <= answer[f"{name}_ms_upper"] / 1e3
            for row, answer in answers
        ]
        # The widths are those of architectures left out, so in sample they hold more.
        assert np.mean(inside) >= 0.85


def test_open_loop_rates_of_llama_8b() -> None:
    """From the offered rate alone; in sample for the coefficients and for the TTFT constants."""
    tpot, ttft = [], []
    resolved = resolve(Deployment("llama-3.1-8b", "h100-sxm"))
    for tokens_in, tokens_out, rate, measured_ttft, measured_itl in guidellm():
        workload = data.uniform_lengths(tokens_in, tokens_out)
        replica = ReplicaModel(resolved, workload, dispersion=0.0)
        batch = replica.lane_batch(rate)
        if batch is None:
            continue
        latency = replica.latency(batch, 0.5)
        tpot.append(abs(latency.tpot_seconds / measured_itl - 1))
        ttft.append(abs(latency.ttft_seconds / measured_ttft - 1))
    print(len(tpot), np.median(tpot), np.mean(tpot), np.median(ttft), np.mean(ttft))
    assert len(tpot) == 112
    assert np.median(tpot) <= 0.08
    assert np.median(ttft) <= 0.15


def test_a_prompt_that_fills_an_l40s_is_refused() -> None:
    with pytest.raises(SizingError):
        ReplicaModel(resolve(Deployment("llama-3.1-8b", "l40s")), Workload(1e6, 100))


def test_tails_below_the_knee() -> None:
    """p95 and p99 of TTFT and p95 of ITL at constant rates, up to 90 % of saturation."""
    path = DATA / "inferno_guidellm" / "exp1_llama31_8b_tidy.csv"
    if not path.exists():
        pytest.skip("the measured data sets are not beside this checkout")
    resolved = resolve(Deployment("llama-3.1-8b", "h100-sxm"))
    errors: dict[str, list[float]] = {"ttft_p95": [], "ttft_p99": [], "itl_p95": []}
    for raw in csv.DictReader(path.open()):
        tokens_in, tokens_out = float(raw["in_tok_mean"]), float(raw["out_tok_mean"])
        workload = data.uniform_lengths(tokens_in, tokens_out)
        replica = ReplicaModel(resolved, workload, dispersion=0.0)
        rate = float(raw["req_per_s_mean"])
        batch = replica.lane_batch(rate)
        if raw["strategy"] != "constant" or batch is None or rate > 0.9 * replica.saturation_requests_per_second:
            continue
        p95, p99 = replica.latency(batch, 0.95), replica.latency(batch, 0.99)
        errors["ttft_p95"].append(abs(p95.ttft_seconds * 1e3 / float(raw["ttft_ms_p95"]) - 1))
        errors["ttft_p99"].append(abs(p99.ttft_seconds * 1e3 / float(raw["ttft_ms_p99"]) - 1))
        errors["itl_p95"].append(abs(p95.tpot_seconds * 1e3 / float(raw["itl_ms_p95"]) - 1))
    medians = {name: float(np.median(values)) for name, values in errors.items()}
    print(len(errors["ttft_p95"]), medians)
    assert medians["ttft_p95"] <= 0.16
    assert medians["ttft_p99"] <= 0.20
    assert medians["itl_p95"] <= 0.17


@pytest.mark.parametrize(
    ("setup", "max_num_seqs", "cached_share"),
    [("vllm", 128, 0.0), ("vllm+batch_size", 192, 0.0), ("vllm+chunking_and_prefix_caching", 256, 128 / 202)],
)
def test_knees_that_no_fit_has_seen(setup: str, max_num_seqs: int, cached_share: float) -> None:
    """Saturation of Llama-3.1-8B on one H100 within 10 %, and never above the truth by more than 5 %."""
    path = DATA / "inference_perf_kubecon" / "tidy.csv"
    if not path.exists():
        pytest.skip("the measured data sets are not beside this checkout")
    rows = [raw for raw in csv.DictReader(path.open()) if raw["config"] == setup]
    knee = max(float(raw["achieved_rate"]) for raw in rows)
    deployment = Deployment("llama-3.1-8b", "h100-sxm", max_num_seqs=max_num_seqs)
    replica = ReplicaModel(resolve(deployment), Workload(202, 62.5, cached_share=cached_share))
    predicted = replica.saturation_requests_per_second
    print(setup, predicted, knee)
    assert 0.90 <= predicted / knee <= 1.05


@pytest.mark.slow
def test_intervals_hold_each_architecture_that_they_were_made_of() -> None:
    """One of five is spread wider than the rest: intervals made without it hold 85 % of it, not 90 % of all."""
    random = np.random.default_rng(5)
    names = np.repeat(list("abcde"), 300)
    ratios = np.exp(random.normal(0.0, np.repeat([0.1, 0.1, 0.1, 0.1, 0.14], 300)))
    kinds = np.full(1500, "dense, vllm")
    found = {"distance": np.full(1500, 0.5), "tpot": ratios, "ttft": ratios, "model": names, "kind": kinds}
    made = held_out.with_intervals(fit.PLAIN, found)
    plain = conformal(found["distance"], ratios, names, 0.90, symmetric=True)
    assert made.tpot_interval.upper[0] > 1.03 * plain.upper[0]
    for name in "abcde":
        without = held_out.with_intervals(fit.PLAIN, found, names != name).tpot_interval
        inside = (ratios >= without.lower[0]) & (ratios <= without.upper[0])
        assert np.mean(inside[names == name]) >= (0.75 if name == "e" else 0.85)


def test_a_kind_of_deployment_has_its_own_interval_near_and_none_far() -> None:
    random = np.random.default_rng(11)
    names, kinds = np.repeat(list("abcdef"), 200), np.repeat(["calm", "wild"], 600)
    ratios = np.exp(random.normal(0.0, np.repeat([0.05, 0.2], 600)))
    distances = np.where(np.arange(1200) % 4 == 0, 1.5, 0.5)
    made = conformal(distances, ratios, names, 0.9, symmetric=True, kinds=kinds)
    (calm_low, calm_high), (wild_low, wild_high) = (made.factors(0.5, kind) for kind in ("calm", "wild"))
    assert wild_low < made.factors(0.5)[0] < calm_low < 1 < calm_high < made.factors(0.5)[1] < wild_high
    assert made.factors(0.5, "unheard of") == made.factors(0.5)
    assert made.factors(1.5, "calm") == made.factors(1.5, "wild")
    assert made.factors(1.5)[0] <= wild_low
    assert made.factors(1.5)[1] >= wild_high
    # Other kinds keep a kind's interval from what little of it was measured.
    few = np.where((kinds == "calm") & (np.arange(1200) % 40 != 1), "other", kinds)
    shown = conformal(distances, ratios, names, 0.9, symmetric=True, kinds=few)
    assert shown.factors(0.5, "calm")[1] > calm_high


@pytest.mark.slow
def test_a_few_points_of_a_set_up_teach_the_rest_of_it() -> None:
    """TPOT from concurrency alone after 5 spread-out points, nothing learned from the architecture before."""
    prior = StepCoefficients(learned=read(without_qwen))
    setups: dict[tuple[object, ...], list[Any]] = {}
    for row in silicon():
        if row.model == "qwen3-32b":
            setups.setdefault(row.setup, []).append(row)
    before, after, inside = [], [], []
    for members in setups.values():
        if len(members) < 20:
            continue
        places = np.log([[row.input_tokens, row.output_tokens, row.concurrency] for row in members])
        chosen = [0]
        while len(chosen) < 5:
            chosen.append(int(np.min([((places - places[i]) ** 2).sum(axis=1) for i in chosen], axis=0).argmax()))
        learned = calibrations([held_out.observed_row(members[i]) for i in chosen], coefficients=prior)
        for index, row in enumerate(members):
            if index in chosen:
                continue
            measured = row.tpot_seconds * 1e3
            point = predict_point(held_out.table_row(row), coefficients=prior, calibrations=learned)
            before.append(abs(predict_point(held_out.table_row(row), coefficients=prior)["tpot_ms_p50"] / measured - 1))
            after.append(abs(point["tpot_ms_p50"] / measured - 1))
            inside.append(point["tpot_ms_lower"] <= measured <= point["tpot_ms_upper"])
    print(len(after), np.median(before), np.median(after), np.mean(after), np.mean(inside))
    assert np.median(after) <= 0.06
    assert np.median(after) <= 0.9 * np.median(before)
    assert 0.85 <= np.mean(inside) <= 0.99


@pytest.mark.parametrize(
    ("name", "times", "ttft"),
    [
        pytest.param(
            "RTX4090_Llama-3.1-8B",
            0.10,
            0.10,
            marks=pytest.mark.xfail(strict=True, reason="E2E 10.2 % and TTFT 11.0 % too long, bars 10 %: 2026-12-01"),
        ),
        ("RTXPRO6000_Llama-3.1-8B", 0.10, 0.10),
        # No timings of experts' kernels on this board; a queue of a second, by the last few of 256 places.
        ("RTXPRO6000_Qwen3-30B-A3B-Instruct-2507", 0.12, 0.45),
    ],
)
def test_the_simulator_against_measured_timelines(name: str, times: float, ttft: float) -> None:
    """Mean errors on boards and runs that no fit has seen."""
    requests, measured = read(lambda: timelines.timeline(DATA, name))
    resolved = resolve(timelines.TIMELINES[name], timelines.timeline_gpus())
    outcome = simulate(resolved, requests, frontend=Frontend(0.0, 0.0))
    errors = [
        mine.mean() / measured[key].mean() - 1
        for key, mine in (("tpot", outcome.tpot_seconds), ("e2e", outcome.e2e_seconds), ("ttft", outcome.ttft_seconds))
    ]
    print(name, errors)
    assert abs(errors[0]) <= times
    assert abs(errors[1]) <= times
    assert abs(errors[2]) <= ttft
    # The RTX 4090's cache was too small for the load: the measured mean of running sequences while full is 34.6.
    if "4090" in name:
        assert outcome.preemptions.sum() > 0
        assert outcome.batch == pytest.approx(34.6, rel=0.1)


def test_one_row_of_an_architecture_does_not_set_an_interval() -> None:
    """Bins widen with the distance, and are as wide upwards as downwards where few architectures tell of them."""
    random = np.random.default_rng(3)
    names = np.array([name for name in "abcd" for _ in range(200)])
    distances = np.repeat([0.5, 0.5, 0.5, 3.0], 200)
    ratios = np.exp(random.normal(0.0, 0.1, 800) - 0.3 * (distances > 1))
    plain = conformal(distances, ratios, names, 0.9, symmetric=True)
    assert plain.lower[0] == pytest.approx(np.exp(-0.165), rel=0.05)
    assert plain.upper[0] == pytest.approx(np.exp(0.165), rel=0.05)
    assert plain.lower[2] < plain.lower[1] <= plain.lower[0]
    assert plain.upper[2] == pytest.approx(1 / plain.lower[2], rel=2e-3)
    odd = conformal(np.append(distances, 0.5), np.append(ratios, 9.0), np.append(names, "e"), 0.9, symmetric=True)
    assert odd.upper[0] == pytest.approx(plain.upper[0], rel=0.05)
