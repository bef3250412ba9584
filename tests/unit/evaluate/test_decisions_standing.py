"""Where Tokentide stands in the cells of the benchmark of decisions: what is compared, and what is counted."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.decisions.standing import standing, standing_text


def _line(asked: float = 0.95, cell: str = "cell", **policies: tuple[float, float]) -> dict[str, Any]:
    found = [
        {
            "policy": name.replace("_", "-"),
            "slo_attainment": attainment,
            "gpu_hours": hours,
            "replica_hours": hours / 2,
        }
        for name, (attainment, hours) in policies.items()
    ]
    return {
        "cell": cell,
        "pool": {"slo_percentile": asked, "min_replicas": 1},
        "trace": {"seconds": 5400.0},
        "score_from_seconds": 1800.0,
        "policies": found,
    }


def test_costs_are_compared_with_those_that_attain_as_much() -> None:
    found = standing(_line(tokentide=(0.97, 11.0), oracle=(0.99, 5.0), reactive=(0.9695, 10.0), kpa=(0.96, 1.0)))

    assert found is not None
    assert found.rival is not None
    assert found.rival.policy == "reactive"
    assert found.over_rival == pytest.approx(0.1)
    assert not found.misses


def test_fixed_fleets_of_hindsight_are_rules_and_no_rivals() -> None:
    found = standing(_line(tokentide=(0.97, 8.0), static_peak=(1.0, 4.0), reactive=(0.98, 10.0)))

    assert found is not None
    assert found.over_rival == pytest.approx(-0.2)
    assert found.over_rule == pytest.approx(1.0)


def test_a_missed_percentile_names_the_cheapest_rival_that_attains_it() -> None:
    found = standing(_line(tokentide=(0.90, 8.0), reactive=(0.93, 9.0), kpa=(0.96, 12.0), keda_running=(0.99, 16.0)))

    assert found is not None
    assert found.misses
    assert found.rival is not None
    assert found.rival.policy == "reactive"
    assert found.attains is not None
    assert found.attains.policy == "kpa"


def test_attainment_beyond_the_percentile_is_told_where_the_percentile_costs_less() -> None:
    text = standing_text([_line(cell="ample", tokentide=(0.99, 10.0), reactive=(1.0, 12.0), kpa=(0.96, 8.0))])

    assert "in 1 of 1 cells" in text
    assert "| ample | 99.0% with 10.00 | kpa: 96.0% with 8.00 | -20% |" in text


def test_where_no_rule_attains_as_much_nothing_is_compared() -> None:
    found = standing(_line(tokentide=(1.0, 8.0), reactive=(0.93, 2.0)))

    assert found is not None
    assert found.rival is None
    assert found.over_rival is None


def test_a_cell_with_one_fleet_for_all_decides_nothing() -> None:
    same = _line(tokentide=(1.0, 24.0), oracle=(1.0, 24.0), reactive=(1.0, 24.0))

    assert standing(same) is None
    assert "in 0 of 0 cells" in standing_text([same])
    assert "same fleet: 1." in standing_text([same])


def test_the_counts_and_both_tables_are_told() -> None:
    text = standing_text(
        [
            _line(cell="won", tokentide=(0.99, 8.0), reactive=(0.99, 9.0)),
            _line(cell="near", tokentide=(0.99, 9.2), reactive=(0.99, 9.0)),
            _line(cell="dear", tokentide=(0.99, 10.0), reactive=(0.99, 9.0)),
            _line(cell="short", tokentide=(0.80, 5.0), reactive=(0.96, 9.0)),
        ]
    )

    assert "in 2 of 4 cells, in 1 of which the cheapest such rival attains at most one point more; " in text
    assert "within 3 % of the cheapest, or better, in 3." in text
    assert "Of the 3 cells in which Tokentide attains the percentile of the SLO it is 1 of 3, and 2." in text
    assert "| dear | 99.0% with 10.00 | reactive: 99.0% with 9.00 | +11% |" in text
    assert "| near |" not in text
    assert "| short | 80.0% with 5.00 | reactive: 96.0% with 9.00 | +80% |" in text


def test_a_rival_with_the_smallest_fleet_too_cannot_be_beaten_and_is_counted_apart() -> None:
    tied = _line(cell="tied", tokentide=(1.0, 2.0), oracle=(1.0, 2.0), reactive=(1.0, 1.9999), kpa=(1.0, 3.0))
    text = standing_text([tied, _line(cell="won", tokentide=(1.0, 2.0), reactive=(1.0, 2.5))])

    assert "in 1 of 1 cells" in text
    assert "in 1 more the smallest fleet that the pool allows is enough" in text
