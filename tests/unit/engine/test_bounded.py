"""What the engine remembers is bounded, however long it runs and whoever comes and goes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.config.settings import PoolSettings, Settings, load
from pipeline.engine.advisor import FORGET_SECONDS, Advisor
from pipeline.engine.types import StepInput
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.calendar.known import CalendarChange
from pipeline.testing import closed_window
from pipeline.windows.types import Breakdown, ClosedWindow, Part

HOUR, DAY = 3_600, 86_400
START = 1_700_006_400 // DAY * DAY
CHAT = PoolSettings(model="m", pool="chat", profile="llama-3.1-8b", accelerator="L40S")


def settings() -> Settings:
    made = load(
        None,
        windows={"grain_seconds": HOUR, "dimensions": ("tenant",)},
        forecast={"tenant_series": 1, "horizons_seconds": (HOUR,)},
    )
    return made.model_copy(update={"pools": (CHAT,)})


def window(hour: int, random: np.random.Generator, pool: str = "chat") -> ClosedWindow:
    """An hour with a day's course, now and then a burst, and tenants that are others every day."""
    rate = 3_600 * (2.0 + math.sin(hour * math.pi / 12)) * (4 if hour % 31 == 0 else 1)
    count = int(random.poisson(rate))
    own = tuple(
        Part(f"day{hour // 24}-{i}", count // share, 800 * (count // share), 0, 200 * (count // share))
        for i, share in enumerate((3, 5, 9))
    )
    told = (Breakdown("tenant", 3, own),)
    return closed_window(START + HOUR * hour, count, pool=pool, grain_seconds=HOUR, current_replicas=4, breakdown=told)


def announced(day: int) -> CalendarChange:
    begins = float(START + DAY * day + 18 * HOUR)
    return CalendarChange(CalendarRecord(f"match-{day}", f"kind-{day}", begins, begins + 2 * HOUR))


@pytest.mark.slow
def test_two_weeks_more_take_no_more_memory() -> None:
    advisor, random = Advisor(settings()), np.random.default_rng(3)
    sizes = []
    for hour in range(48 * 24):
        news = (announced(hour // 24),) if hour % 24 == 0 else ()
        advisor.step(StepInput(START + HOUR * (hour + 1), (window(hour, random),), news))
        if hour in (33 * 24, 48 * 24 - 1):  # the longest memory of windows has 720
            sizes.append(len(advisor.snapshot()))
    assert len(advisor.calendar) <= 8
    # One mean a day of each signal is kept for years: four bytes.
    assert sizes[1] < 1.02 * sizes[0], sizes


@pytest.mark.slow
def test_pools_that_no_step_names_any_more_are_forgotten() -> None:
    advisor, random = Advisor(settings()), np.random.default_rng(3)
    week = FORGET_SECONDS // HOUR
    for day in range(3 * week // 24):
        hour = 24 * day
        pools = ("chat", f"of-day-{day}")
        advisor.step(StepInput(START + HOUR * (hour + 1), tuple(window(hour, random, pool) for pool in pools)))
        assert len(advisor._pools) <= 2 + week // 24
        advisor = Advisor.restore(settings(), advisor.snapshot())
    gone = {key.pool for key in advisor._pools}
    assert gone == {"chat", *(f"of-day-{day}" for day in range(3 * week // 24 - week // 24, 3 * week // 24))}
    assert advisor._named_at.keys() == advisor._pools.keys()
