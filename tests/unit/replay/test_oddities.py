"""What no number may come out of: mixed counters, times far off, steps that change; and samples that are kept apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.replay.formats import SeriesKind
from tests.unit.replay.test_kinds import COUNTS, HOUR, read, written


def totals(scale: int) -> list[int]:
    return [scale * int(total) for total in np.cumsum(COUNTS)]


def test_counters_of_several_pods_add_up_by_their_increases(tmp_path: Path) -> None:
    rows = [(h * HOUR, pod, n) for h, pair in enumerate(zip(totals(1), totals(3), strict=True))
            for pod, n in zip("ab", pair, strict=True)]  # fmt: skip
    series, said = read(written(tmp_path, "t,pod,n", rows))
    assert said == ["d.csv: n is read as counter (its values only rise within each pod); --kind says otherwise"]
    assert series.values.tolist() == pytest.approx([4.0 * count for count in COUNTS[1:]])
    explicit, _ = read(written(tmp_path, "t,pod,n", rows), kind=SeriesKind.COUNTER)
    assert explicit.values.tolist() == series.values.tolist()


def test_counters_scraped_one_after_the_other_are_no_counts(tmp_path: Path) -> None:
    rows = [(h * HOUR + 60 * i, pod, n) for h, pair in enumerate(zip(totals(1), totals(3), strict=True))
            for i, (pod, n) in enumerate(zip("ab", pair, strict=True))]  # fmt: skip
    series, said = read(written(tmp_path, "t,pod,n", rows))
    assert "its values only rise within each pod" in said[0]
    assert series.values[5:90].tolist() == pytest.approx([4.0 * count for count in COUNTS[6:91]], rel=0.05)


def test_counters_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    rows = [(h * HOUR, n) for h, pair in enumerate(zip(totals(1), totals(3), strict=True)) for n in pair]
    with pytest.raises(InputError, match=r"several values at the same instants.*--group-column"):
        read(written(tmp_path, "t,n", rows))


def test_a_total_that_begins_anew_each_midnight_is_a_counter(tmp_path: Path) -> None:
    rows, total = [], 0
    for hour, count in enumerate(COUNTS):
        total = count if hour % 24 == 0 else total + count
        rows.append((hour * HOUR, total))
    series, said = read(written(tmp_path, "t,n", rows))
    assert "counter (its values only rise (resets: 3))" in said[0]
    assert series.values.tolist() == pytest.approx([float(count) for count in COUNTS[1:]])


@pytest.mark.parametrize("kind", [SeriesKind.COUNTS, SeriesKind.GAUGE])
@pytest.mark.parametrize("wrong", [0, 2_800_000_000])
def test_a_single_time_far_off_is_refused(tmp_path: Path, kind: SeriesKind, wrong: int) -> None:
    rows = [(1_767_225_600 + 60 * i, 5) for i in range(300)]
    rows[150] = (wrong, 5)
    with pytest.raises(InputError, match=rf"1 row has a time far from all others.*'{wrong}'.*2026-01-01T00:00:00Z"):
        read(written(tmp_path, "t,n", rows), step=60, kind=kind)


def test_a_quiet_beginning_is_no_wrong_time(tmp_path: Path) -> None:
    rows = [(1_767_225_600 + 86_400 * i, 5) for i in range(8)]
    rows += [(1_767_225_600 + 8 * 86_400 + 60 * i, 5) for i in range(200)]
    read(written(tmp_path, "t,n", rows), step=86_400, kind=SeriesKind.GAUGE)


def test_a_part_at_a_coarser_step_is_refused(tmp_path: Path) -> None:
    rows = [(300 * i, 7) for i in range(1000)] + [(300_000 + HOUR * i, 84) for i in range(40)]
    with pytest.raises(InputError, match="rows lie 300 s apart, but 3600 s around"):
        read(written(tmp_path, "t,n", rows), step=300)


def test_rows_that_are_missing_are_no_other_step(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    rows = [(300 * i, 7) for i in range(2000) if draw.random() > 0.2]
    series, _ = read(written(tmp_path, "t,n", rows), step=300)
    assert np.nansum(series.values) == 7 * len(rows)


def test_samples_of_several_pods_at_different_instants_are_told(tmp_path: Path) -> None:
    rows = [(60 * i + 20 * k, pod, 5.5) for i in range(60) for k, pod in enumerate("abc")]
    _, said = read(written(tmp_path, "t,pod,rps", rows), step=300, column="rps")
    assert any("mean, not their sum; --group-column pod" in text for text in said)


@pytest.mark.parametrize(
    "name", ["tok/s", "requests (ops/s)", "requests/min", "rpm", "requêtes par seconde", "リクエスト/秒", "latency_p99"]
)
def test_names_of_rates_and_levels(tmp_path: Path, name: str) -> None:
    rows = [(300 * i, 5 + i % 3) for i in range(48)]
    series, said = read(written(tmp_path, f"t,{name}", rows), column=name)
    assert "gauge (its name says so)" in said[0]
    assert series.values.max() < 8


@pytest.mark.parametrize("name", ["requests", "items", "tokens/user", "operations", "inputs"])
def test_names_of_counts(tmp_path: Path, name: str) -> None:
    rows = [(300 * i, 5 + i % 3) for i in range(48)]
    series, _ = read(written(tmp_path, f"t,{name}", rows), column=name)
    assert series.values[0] == 72.0


def test_columns_of_a_wide_table_have_rows_of_their_own(tmp_path: Path) -> None:
    from pipeline.replay.sources import read_demand

    rows = [(300 * i, 5 if i % 2 else "", "" if i % 2 else 6) for i in range(48)]
    found = read_demand(
        written(tmp_path, "t,a,b", rows),
        step_seconds=600,
        time_column="t",
        value_column=["a", "b"],
        kind=SeriesKind.COUNTS,
    )
    assert [series.values.tolist() for series in found] == [[5.0] * 24, [6.0] * 24]
