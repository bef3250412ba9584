from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from sizing.catalog import Catalog
from sizing.catalog.user import catalog_from_mapping
from sizing.economics import ApiPrice
from sizing.errors import DoesNotFit, InvalidInput
from sizing.explain import Chart, Explanation, Question, Series, Step, Table, explain, render_html, render_text
from sizing.explain.svg import render_svg
from sizing.report import size_report
from sizing.types import Demand, Deployment, PolicyConfig, Slo, Workload

CHAT = Workload(2000, 300, input_tokens_squared=7e6, output_tokens_squared=1.5e5, cached_share=0.2)
DEMAND = Demand((0.1, 0.5, 0.9), (20.0, 30.0, 42.0), CHAT, 600.0)
QUESTION = Question(Deployment("llama-3.3-70b", "h100-sxm", tensor_parallel=4), Slo(), DEMAND, api=ApiPrice(0.5, 0.8))


@pytest.fixture(scope="module")
def whole():
    return explain(QUESTION)


def fact(explanation, number, name):
    step = explanation.steps[number - 1]
    (found,) = [f for f in (*step.inputs, *step.results) if f.name == name]
    return found


def test_thirteen_steps_each_with_inputs_results_and_a_conclusion(whole) -> None:
    assert [step.number for step in whole.steps] == list(range(1, 14))
    for step in whole.steps:
        assert step.inputs
        assert step.results
        assert step.conclusion.endswith(".")


def test_every_number_names_its_source(whole) -> None:
    for step in whole.steps:
        for found in (*step.inputs, *step.results):
            assert found.source.strip(), found
        for table in step.tables:
            assert table.source.strip()


def test_the_steps_agree_with_the_plain_report(whole) -> None:
    report = size_report(QUESTION.deployment, CHAT, QUESTION.slo, 42.0, PolicyConfig(max_replicas=10**6))
    assert fact(whole, 11, "operating point").value == report.operating_point.requests_per_second
    assert fact(whole, 12, "replicas").value == report.replicas
    assert fact(whole, 3, "weights per GPU").value == pytest.approx(report.memory.weight_bytes / 2**30)
    assert fact(whole, 13, "cost per hour").value == report.cost.dollars_per_hour


def test_the_numbers_of_a_step_follow_from_each_other(whole) -> None:
    usable, weights = fact(whole, 5, "usable").value, fact(whole, 3, "weights per GPU").value
    reserved = sum(
        fact(whole, 5, name).value
        for name in (
            "activations at the largest step",
            "CUDA or ROCm, beside PyTorch",
            "communication buffers",
            "CUDA graphs, where the engine counts them",
        )
    )
    assert fact(whole, 5, "left for the KV cache").value == pytest.approx(usable - weights - reserved)
    # The layers of the step chart add up to the step that the replica model gives.
    chart = whole.steps[5].charts[0]
    totals = [sum(layer.y[i] for layer in chart.series) for i in range(len(chart.series[0].x))]
    assert fact(whole, 6, "step with one sequence").value == pytest.approx(totals[0])
    assert any(fact(whole, 6, "step at the operating point").value == pytest.approx(total) for total in totals)
    # cu / (cu + co) of 9 : 1 is the 90 % quantile, given as 42 req/s.
    assert fact(whole, 12, "demand there").value == pytest.approx(42.0)


def test_the_marked_row_of_every_choice_is_the_question_itself(whole) -> None:
    replicas = fact(whole, 12, "replicas").value
    for number in (7, 8, 10):
        table = whole.steps[number - 1].tables[0]
        assert table.rows[table.chosen][table.columns.index("replicas")] == replicas


def test_prefill_and_decode_apart_and_speculation_are_shown_beside(whole) -> None:
    (together, split) = whole.steps[8].tables[1].rows
    # Nothing interferes with decoding when prompts are computed elsewhere.
    assert split[5] < together[5]
    assert split[3] == pytest.approx(2000 * 327_680 / (4 * 50e9) * 1e3)
    ratios = [row[3] for row in whole.steps[9].tables[1].rows]
    assert ratios == sorted(ratios)
    assert ratios[0] < ratios[-1]


def test_as_json_text_and_page(whole) -> None:
    again = json.loads(json.dumps(whole.to_dict(), allow_nan=False))
    assert len(again["steps"]) == 13
    text = render_text(whole)
    listed = {int(n) for n in re.findall(r"^  \[(\d+)\] ", text, re.M)}
    used = {int(n) for n in re.findall(r"(?<!^ )\[(\d+)\]", text)}
    assert used == listed
    assert "2-min" not in text
    assert "10-min-ahead p90 of 42 req/s" in text


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        assert tag != "script"
        assert not any(key.startswith("on") or (key in ("src", "href") and "//" in (v or "")) for key, v in attrs)
        if tag != "meta":
            self.open.append(tag)
        if named.get("id"):
            self.ids.add(str(named["id"]))
        if tag == "a":
            self.links.add(str(named["href"]).removeprefix("#"))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_needs_nothing_else(whole) -> None:
    page = _Page()
    html = render_html(whole)
    page.feed(html)
    assert page.open == []
    assert page.links <= page.ids
    for svg in re.findall(r"<svg.*?</svg>", html, re.S):
        ElementTree.fromstring(svg)
    assert html.count("<svg") == 5


def test_names_from_outside_are_escaped() -> None:
    evil = "<script>alert(1)</script>"
    config = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
    mine = catalog_from_mapping({"models": {evil: {"config": config | {"vocab_size": 1000}, "source": evil}}})
    question = replace(QUESTION, deployment=Deployment(evil, "h100-sxm"))
    html = render_html(explain(question, mine))
    assert evil not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("model", ["deepseek-v3", "gpt-oss-120b", "qwen3.5-397b-a17b", "qwen3-30b-a3b"])
def test_every_kind_of_architecture(model: str) -> None:
    question = replace(QUESTION, deployment=Deployment(model, "b200-sxm", tensor_parallel=8, precision="fp8"))
    text = render_text(explain(question))
    assert ("multi-head latent attention" in text) == (model == "deepseek-v3")


def test_an_objective_out_of_reach_is_said_in_step_two() -> None:
    found = explain(replace(QUESTION, slo=Slo(1.0, 0.002)))
    assert found.steps[1].conclusion.startswith("Infeasible")
    without = explain(replace(QUESTION, slo=Slo(None, None)))
    assert fact(without, 2, "TPOT").text == "unknown"


def test_without_a_price_nothing_is_made_up() -> None:
    assert Catalog().gpu("l4").price is None
    found = explain(replace(QUESTION, deployment=Deployment("qwen3-8b", "l4", precision="fp8")))
    assert fact(found, 13, "price of a GPU-hour").text == "unknown"
    assert not any("cost" in result.name for result in found.steps[12].results)


def test_what_cannot_be_explained() -> None:
    with pytest.raises(DoesNotFit):
        explain(replace(QUESTION, deployment=Deployment("llama-3.3-70b", "h100-sxm")))
    with pytest.raises(InvalidInput):
        explain(replace(QUESTION, demand=replace(DEMAND, requests_per_second=(1.0,))))


def test_charts_without_values_and_of_no_kind() -> None:
    assert "no values" in render_svg(Chart("line", "Empty", "", "", (Series("a", (), ()),)))
    flat = render_svg(Chart("stacked", "Zero", "", "s", (Series("a", ("x",), (0.0,)),)))
    ElementTree.fromstring(flat)
    with pytest.raises(InvalidInput):
        Chart("pie", "", "", "", ())


class Texts(HTMLParser):
    """The texts of a chart or page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self._open: tuple[str, dict[str, str | None]] | None = None
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        self._open = (tag, dict(attrs)) if tag in ("text", "td", "th") else None

    def handle_data(self, data) -> None:
        if self._open is not None:
            self.found.append((*self._open, data))
            self._open = None


def labels(chart: Chart, beyond: float) -> list[tuple[float, str]]:
    """Texts centred below the height ``beyond``, with their places."""
    texts = Texts(render_svg(chart)).found
    return [
        (float(a["x"]), text) for _, a, text in texts if a.get("text-anchor") == "middle" and float(a["y"]) > beyond
    ]


def test_the_names_and_totals_of_many_bars_do_not_overlap() -> None:
    hours = Series("demand", tuple(str(hour) for hour in range(24)), tuple(0.4 + 0.0512 * h for h in range(24)))
    chart = Chart("stacked", "Demand by hour", "", "over the mean", (hours,))
    named = labels(chart, 200.0)
    assert named[0][1] == "0"
    for (x, text), (after, following) in itertools.pairwise(named):
        assert after - x >= 7.0 * (len(text) + len(following)) / 2, f"{text} and {following}"
    totals = [text for _, text in labels(chart, 0.0) if text not in {name for _, name in named}]
    assert totals == [], "totals are written for all bars or for none"


def test_long_names_of_bars_are_broken_into_lines() -> None:
    names = ("tokentide", "hpa-concurrency", "static-peak", "keda-queue", "oracle")
    chart = Chart("stacked", "Replica-hours", "", "h", (Series("h", names, (1.0, 2.0, 3.0, 4.0, 5.0)),))
    assert {"hpa-", "concurrency"} <= {text for _, text in labels(chart, 200.0)}


def test_charts_and_pages_can_be_read_in_the_dark(whole) -> None:
    page = render_html(whole)
    assert "prefers-color-scheme: dark" in page
    assert "#1b2733" not in page.split("</style>")[1], "texts of charts take the colour of the page"


def test_columns_of_percentages_stand_below_each_other() -> None:
    rows = ((128, "any", "2.8%", "extrapolated", "4 replicas"), (None, "512", "13.4% (12.1–14.0)", "–", "none"))
    table = Table("t", ("tokens", "at most", "share", "known", "what"), rows, "given")
    step = Step(1, "s", "?", (), (), "", (table,))
    page = render_html(Explanation("t", "", (step,)))
    right = [text for tag, attributes, text in Texts(page).found if tag == "th" and attributes.get("class") == "number"]
    assert right == ["tokens", "at most", "share"]
