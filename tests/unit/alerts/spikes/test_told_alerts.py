"""The newest alerts of a series in an array."""

from __future__ import annotations

import pickle
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pipeline.alerts.spikes.told_alerts import Told, ToldAlerts

ALERTS = st.builds(
    Told,
    at=st.floats(0, 1e12),
    window=st.integers(0, 2**50),
    levels=st.integers(0, 35),
    counted=st.integers(0, 2**35 - 1),
    count=st.sampled_from([0.0, 1.25, 2.0]),
    marked=st.none() | st.sampled_from([0.0, 2.0]),
)


@given(st.lists(ALERTS, max_size=20))
def test_what_was_told_comes_back(told: list[Told]) -> None:
    alerts = ToldAlerts()
    for one in told:
        alerts.append(one)
    alerts = pickle.loads(pickle.dumps(alerts))
    assert [alerts[number] for number in range(len(alerts))] == told
    for one in told:
        assert told[alerts.find(one.at) or 0].at == one.at
    assert alerts.find(-1.0) is None


def test_the_newest_256_are_kept_and_one_can_be_replaced() -> None:
    alerts = ToldAlerts()
    for window in range(300):
        alerts.append(Told(float(window), window, 1, 1, 1.25))
    assert len(alerts) == 256
    assert (alerts[0].window, alerts[255].window) == (44, 299)
    assert alerts.find(43.0) is None
    number = alerts.find(100.0)
    assert number is not None
    alerts[number] = replace(alerts[number], marked=0.0)
    assert [alerts[at].marked for at in (number - 1, number, number + 1)] == [None, 0.0, None]
