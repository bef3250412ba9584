"""Hourly and daily forecasts in the live state and over HTTP."""

import json
import urllib.error
import urllib.request

import pytest

from pipeline.engine.types import StepOutput
from pipeline.forecast.day_model import Growth
from pipeline.forecast.outlook import Grain, Outlook
from pipeline.forecast.types import LEVELS, Forecast, SeriesKey
from tests.publish_feed import Feed
from tests.publish_server import Server
from tests.waiting import scaled


@pytest.fixture(scope="module")
def served():
    feed = Feed()
    feed.step(30)
    model, pool = next(iter(feed.windows))
    series = SeriesKey(model, pool, "requests_per_second")
    quantiles = tuple(10.0 + level for level in LEVELS)
    at = float(feed.as_of)
    outlooks = tuple(
        Outlook(series, grain, at, (Forecast(series, at, seconds, quantiles),), growth, 1.7)
        for grain, seconds, growth in (
            (Grain.HOUR, 3600, ()),
            (Grain.DAY, 86_400, (Growth("flat", 0.0, (10.0,)), Growth("high", 0.01, (12.0,)))),
        )
    )
    feed.live.update(StepOutput(feed.as_of, outlooks=outlooks))
    with Server(feed) as server:
        yield server, f"/v1/forecasts/{model}/{pool}"


def get(served, query):
    server, path = served
    with urllib.request.urlopen(server.url + path + query, timeout=scaled(10)) as response:
        return json.loads(response.read())


def test_each_grain_has_its_own_answer(served):
    assert get(served, "")["grain"] == "minute"
    hour, day = get(served, "?grain=hour"), get(served, "?grain=day&signal=requests_per_second")
    assert [f["horizon_seconds"] for f in hour["forecasts"]] == [3600]
    assert hour["growth"] == {}
    assert [f["horizon_seconds"] for f in day["forecasts"]] == [86_400]
    assert [scenario["name"] for scenario in day["growth"]["requests_per_second"]] == ["flat", "high"]
    assert day["peak_ratio"] == {"requests_per_second": 1.7}
    assert get(served, "?grain=day&signal=kv_tokens")["forecasts"] == []


def test_another_grain_is_refused(served):
    with pytest.raises(urllib.error.HTTPError) as told:
        get(served, "?grain=year")
    assert told.value.code == 400
    assert b"grain must be one of minute, hour, day" in told.value.read()
