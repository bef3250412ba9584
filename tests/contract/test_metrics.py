from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.publish.exporter import Exporter
from pipeline.publish.metric_catalogue import BANDS, CATALOGUE, METRICS, markdown
from tests.publish_feed import Feed
from tests.stock_feed import share_stock
from tests.waiting import scaled

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def exposition() -> str:
    feed = Feed()
    feed.step(180)
    share_stock(feed, budget=8.0)
    return Exporter(feed.live).render().decode()


def test_names_are_unique_and_well_formed():
    assert len(METRICS) == len(CATALOGUE)
    for metric in CATALOGUE:
        assert re.fullmatch(r"tokentide_[a-z0-9_]+[a-z0-9]", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert len(set(metric.labels)) == len(metric.labels)
        assert "quantile" not in metric.labels
        assert metric.help.endswith(".")


def test_what_is_exposed_is_what_the_catalogue_says(exposition):
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            metric = METRICS[sample.name]
            assert family.type == metric.kind
            assert set(sample.labels) == set(metric.labels), sample.name


def test_the_synthetic_fleet_shows_nearly_every_metric(exposition):
    exposed = {s.name for f in text_string_to_metric_families(exposition) for s in f.samples}
    # In the feed no clock is off, the inputs are sound, and no fleet reports between two windows.
    assert set(METRICS) - exposed <= {
        "tokentide_recommendation_clamped",
        "tokentide_recommendation_input_problem",
        "tokentide_recommendation_revisions_total",
        "tokentide_server_clock_offset_seconds",
    }


def test_a_pool_costs_a_bounded_number_of_series(exposition):
    of_chat = [line for line in exposition.splitlines() if "Llama-3.3-70B-Instruct" in line]
    assert len(of_chat) <= 4 * 5 * len(BANDS) + 186


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_complain_about(exposition):
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=exposition,
        check=False,
        capture_output=True,
        text=True,
        timeout=scaled(30),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_documentation_is_the_catalogue():
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == markdown(), (
        "run: python -m pipeline.publish.metric_catalogue > docs/metrics.md"
    )
