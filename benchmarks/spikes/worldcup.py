"""World Cup flash crowds: how long before an onset the product warns, with the public calendar and without."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
from rivals import Floats

from pipeline.alerts.spikes.early_warning import EVENT_PROBABILITY, SPIKE_RATIO, ForecastWatch
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.types import SeriesKey

GRAIN = 300
#: The trace from the first midnight on; onsets are counted from the first match day.
START = datetime(1998, 5, 1, tzinfo=UTC).timestamp()
TOURNAMENT = datetime(1998, 6, 10, tzinfo=UTC).timestamp()
#: 90 minutes of play and the break.
MATCH_SECONDS = 6300.0
HORIZONS = (300, 900, 1800, 3600)
#: Windows without the condition after which it is a new onset; an alert may precede its onset by this many at most.
REARM, REACH = 6, 36
LEAD_MINUTES = 60
#: A warning that pauses no longer than this many windows is one warning.
MERGE = 12


def load(folder: Path) -> tuple[Floats, tuple[CalendarRecord, ...]]:
    """Counts per five minutes, and the fixture list: kick-off times only."""
    counts = duckdb.execute(
        f"SELECT sum(requests)::DOUBLE AS n FROM '{folder / 'worldcup98/requests_1min.parquet'}' "
        f"WHERE epoch(timestamp) >= {START} GROUP BY floor(epoch(timestamp) / {GRAIN}) "
        f"ORDER BY floor(epoch(timestamp) / {GRAIN})"
    ).fetchnumpy()["n"]
    with (folder / "worldcup98/match_schedule.csv").open(encoding="utf-8") as file:
        kickoffs = [
            datetime.fromisoformat(row["kickoff_utc"].replace("Z", "")).replace(tzinfo=UTC).timestamp()
            for row in csv.DictReader(file)
        ]
    return np.asarray(counts), tuple(
        CalendarRecord(str(n), "match", at, at + MATCH_SECONDS) for n, at in enumerate(kickoffs)
    )


def onsets(values: Floats) -> list[int]:
    """First windows of demand at 1.5 times that of an hour ago and the median of the day before, tournament days."""
    day, hour = 86_400 // GRAIN, 3600 // GRAIN
    hot = [
        at
        for at in range(day, len(values))
        if values[at] >= SPIKE_RATIO * max(values[at - hour], float(np.median(values[at - day : at])))
    ]
    found = [at for n, at in enumerate(hot) if n == 0 or at - hot[n - 1] > REARM]
    return [at for at in found if START + at * GRAIN >= TOURNAMENT]


def warnings(values: Floats, calendar: tuple[CalendarRecord, ...], *, anywhere: bool) -> list[list[int]]:
    """First and last window of each warning; ``anywhere`` looks an hour ahead without an event, too."""
    watch = ForecastWatch(float(GRAIN), probability=0.5)
    model = SeriesForecaster(SeriesKey("m", "p", "requests_per_second"), HORIZONS, GRAIN)
    found: list[list[int]] = []
    active = False
    for at, value in enumerate(values.tolist()):
        end = START + (at + 1) * GRAIN
        issued = model.step(end, value / GRAIN, calendar)
        near = [e for e in calendar if abs(e.starts_at - end) < 6 * 3600.0]
        active = watch.look(issued, None, near, active=active) is not None
        if anywhere and issued and not active:
            active = any(watch.event_chance(f) >= EVENT_PROBABILITY for f in issued)
        watch.learn(value / GRAIN)
        if active and START + at * GRAIN >= TOURNAMENT - 3 * 3600:
            if found and at - found[-1][1] <= MERGE:
                found[-1][1] = at
            else:
                found.append([at, at])
    return found


def judge(name: str, values: Floats, raised: list[list[int]]) -> tuple[list[str], float]:
    """One row, and the recall at the wanted lead."""
    wanted = onsets(values)
    leads, used = [], set()
    for onset in wanted:
        mine = [n for n, (first, last) in enumerate(raised) if onset - REACH <= first < onset and last >= onset - 24]
        if mine:
            leads.append((onset - raised[mine[0]][0]) * GRAIN / 60.0)
            used |= set(mine)
    days = (len(values) * GRAIN + START - TOURNAMENT) / 86_400.0
    recall = sum(lead >= LEAD_MINUTES for lead in leads) / len(wanted)
    row = [
        name,
        str(len(wanted)),
        f"{len(leads) / len(wanted):.2f}",
        f"{recall:.2f}",
        f"{np.median(leads):.0f}" if leads else "-",
        f"{(len(raised) - len(used)) / days:.2f}",
    ]
    return row, recall


def measure(folder: Path) -> tuple[list[list[str]], float | None]:
    """The table, and recall with the calendar over recall without it, both looking an hour ahead."""
    values, calendar = load(folder)
    rows, recalls = [], []
    for name, events, anywhere in (
        ("with the calendar, as shipped", calendar, False),
        ("without it, as shipped (15 min ahead only)", (), False),
        ("without it, the hour-ahead rule everywhere", (), True),
    ):
        row, recall = judge(name, values, warnings(values, events, anywhere=anywhere))
        rows.append(row)
        recalls.append(recall)
    return rows, recalls[0] / recalls[2] if recalls[2] else None
