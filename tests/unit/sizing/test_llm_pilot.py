"""The decision benchmark: its rule, and the score that rivals' own predictions are known to get by it."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from tests.unit.sizing.benchmark_modules import benchmark_module


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("llama-7b", 6.7),
        ("EleutherAI/gpt-neox-20b", 20.6),
        ("bigcode/starcoder", 15.5),
        ("google/flan-t5-xl", 2.9),
        ("google/flan-t5-xxl", 11.1),
        ("ibm/mpt-7b-instruct2", 6.7),
        ("Salesforce/codegen2-16B", 16.0),
    ],
)
def test_shapes_have_the_parameters_of_the_llms(name: str, billions: float) -> None:
    spec = benchmark_module("llm_pilot").model_spec(name)
    # The head is tied or the encoder takes the place of the input embedding: one of the two is not counted.
    assert spec.total_parameters / 1e9 == pytest.approx(billions, rel=0.06)


def test_the_rule() -> None:
    within, slow = (10.0, 20.0), (10.0, 60.0)
    truth = {("a", "small"): {50: within, 100: slow}, ("a", "large"): {100: within, 200: within}}
    prices = {"small": 1.0, "large": 5.0}
    assert benchmark_module("llm_pilot").most_users(truth["a", "small"]) == 50
    assert benchmark_module("llm_pilot").score(truth, truth, prices) == (1.0, 0.0, 1.0)
    # Thought better than it is: two small ones for 200 users do not hold.
    hopeful = truth | {("a", "small"): {50: within, 100: within}}
    assert benchmark_module("llm_pilot").score(hopeful, truth, prices) == (0.0, 0.0, 0.0)
    # Thought worse: the large one holds at 5 instead of 4.
    fearful = truth | {("a", "small"): {50: slow, 100: slow}}
    success, overspend, both = benchmark_module("llm_pilot").score(fearful, truth, prices)
    assert (success, overspend) == (1.0, 0.25)
    assert both == pytest.approx(2 * 0.75 / 1.75)


@pytest.mark.slow
def test_rivals_get_the_score_that_is_known_and_the_llm_tested_is_in_no_fit() -> None:
    module = benchmark_module("llm_pilot")
    folder = module.DATA / "llm_pilot"
    if not folder.exists():
        pytest.skip("the LLM-Pilot data set is not beside the checkout")
    rows = module.measured(folder)
    assert len(rows) == 422
    truth = module.loads(rows, "nttft_ms_p50", "itl_ms_p50")
    with (folder / "prices.csv").open() as file:
        prices = {row["GPU"]: float(row["price"]) for row in csv.DictReader(file) if row["GPU"]}
    with (folder / "expected_predictions_LLM-Pilot.csv").open() as file:
        theirs = [row for row in csv.DictReader(file) if row["model"]]
    predicted = module.loads(theirs, "prediction_median_nttft", "prediction_median_itl")
    assert module.score(predicted, truth, prices) == pytest.approx((0.75, 0.181, 0.783), abs=1e-3)

    terms = module.Terms(rows, module.gpu_specs(folder))
    # A layer with cross attention launches three blocks instead of two.
    crossed = [module.SHAPES[name].encoder for name in terms.llms]
    assert terms.blocks.tolist() == [3.0 if encoder else 2.0 for encoder in crossed]
    step, _ = terms.columns((4000.0, 250.0))
    launches = step[:, 2 : 2 + terms.hosts.shape[1]].sum(axis=1)
    layers = np.array([module.SHAPES[name].layers for name in terms.llms])
    per_block = (launches / layers / terms.blocks)[terms.split == 0.0]
    assert per_block == pytest.approx(np.full(len(per_block), per_block[0]))
    alike = module.WEIGHTS["every row alike"]
    before = module.left_out(rows, terms, alike)
    terms.itl[terms.llms == "llama-7b"] *= 3.0
    after = module.left_out(rows, terms, alike)
    own = [key for key in before if key[0] == "llama-7b"]
    assert own
    assert all(after[key] == before[key] for key in own)
    assert any(after[key] != before[key] for key in before if key not in own)
