"""Tenants in the live state, in the metrics, as JSON and over HTTP."""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import replace

import jsonschema
import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.config import resources
from pipeline.engine.types import StepOutput, TenantDemand
from pipeline.publish.exporter import Exporter
from pipeline.publish.json import to_json
from pipeline.windows.types import REST
from tests.publish_feed import Feed
from tests.publish_server import Server
from tests.waiting import scaled


@pytest.fixture(scope="module")
def server():
    feed = Feed()
    feed.step(20)
    with Server(feed) as server:
        yield server


def get(server, query, pool="llama-3.1-8b-instruct/chat"):
    with urllib.request.urlopen(f"{server.url}/v1/forecasts/{pool}{query}", timeout=scaled(10)) as response:
        return json.loads(response.read())


def samples(feed, name):
    return re.findall(rf"^{name}{{(.*)}} (\S+)$", Exporter(feed.live).render().decode(), re.MULTILINE)


def test_a_tenant_has_forecasts_of_its_own_over_http(server):
    pool = get(server, "?signal=requests_per_second")
    assert [told["tenant"] for told in pool["tenants"]] == ["acme", REST]
    assert pool["tenants"][0]["share"] == 0.25
    acme = get(server, "?tenant=acme")
    assert [f["horizon_seconds"] for f in acme["forecasts"]] == [60, 300, 900, 1800, 3600]
    assert acme["tenants"] == pool["tenants"][:1]
    for own, whole in zip(acme["forecasts"], pool["forecasts"], strict=True):
        assert own["quantiles"]["q50"] == 0.25 * whole["quantiles"]["q50"]
    assert get(server, "?tenant=*")["tenants"][0]["share"] == 0.75
    assert get(server, "?tenant=acme&signal=kv_tokens")["forecasts"] == []
    assert get(server, "", "llama-3.1-8b-instruct/batch")["tenants"] == []


def test_the_command_shows_a_tenant(server):
    arguments = ["forecast", "show", "llama-3.1-8b-instruct", "chat", "--url", server.url, "--output", "json"]
    done = CliRunner().invoke(app, [*arguments, "--tenant", "acme"])
    assert [told["tenant"] for told in json.loads(done.stdout)["tenants"]] == ["acme"]
    assert len(json.loads(done.stdout)["forecasts"]) == 5


@pytest.mark.parametrize(
    ("query", "status"), [("?tenant=bolt", 404), ("?tenant=", 404), ("?tenant=acme&grain=day", 404)]
)
def test_what_is_not_forecast_apart_is_refused(server, query, status):
    with pytest.raises(urllib.error.HTTPError) as told:
        get(server, query)
    assert told.value.code == status


def test_shares_and_the_number_of_values_are_exposed(feed):
    assert samples(feed, "tokentide_tenant_demand_ratio") == [
        ('model="llama-3.1-8b-instruct",pool="chat",tenant="acme"', "0.25"),
        ('model="llama-3.1-8b-instruct",pool="chat",tenant="*"', "0.75"),
    ]
    labels = 'model="llama-3.1-8b-instruct",pool="chat",dimension="tenant"'
    assert samples(feed, "tokentide_dimension_values") == [(labels, "40.0")]
    assert samples(feed, "tokentide_dimension_values_unnamed_total") == [(labels, f"{20 * 38.0}")]


def test_stale_tenants_disappear_and_an_older_step_replaces_nothing(feed):
    key = ("llama-3.1-8b-instruct", "chat")
    feed.live.update(StepOutput(feed.as_of - 60, tenants=(TenantDemand(*key, "old", 1.0, 1.0, ()),)))
    assert [told.tenant for told in feed.live.pool(*key).tenants] == ["acme", REST]
    feed.live.update(StepOutput(feed.as_of + 60, tenants=(TenantDemand(*key, "new", None, None, ()),)))
    assert [told.tenant for told in feed.live.pool(*key).tenants] == ["new"]
    assert samples(feed, "tokentide_tenant_demand_ratio") == [], "unknown is absent"
    feed.clock.set(feed.as_of + 3_600)
    assert feed.live.pool(*key).tenants == ()


def test_a_window_with_a_breakdown_fits_its_schema_and_one_without_has_no_word_of_it(feed):
    window = feed.windows["llama-3.1-8b-instruct", "chat"][-1]
    schema = json.loads(resources.find("schemas/window.v1.schema.json").read_text(encoding="utf-8"))
    data = json.loads(to_json(window))
    jsonschema.Draft202012Validator(schema).validate(data)
    assert data["breakdown"]["tenant"]["values"] == 40
    assert [part["value"] for part in data["breakdown"]["tenant"]["parts"]] == ["acme", "bolt", REST]
    assert sum(part["requests"] for part in data["breakdown"]["tenant"]["parts"]) == data["requests"]
    plain = json.loads(to_json(replace(window, breakdown=())))
    assert "breakdown" not in plain
    assert data == plain | {"breakdown": data["breakdown"]}
