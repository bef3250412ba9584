"""Rows of base windows: inserted or added to, the same whatever comes together in one transaction."""

import pytest

from pipeline.config.settings import WindowSettings
from pipeline.store.store import Store
from tests.unit.store.support import NOW, delta, value

_WINDOWS = "SELECT * FROM windows ORDER BY window_start, key_id"
_CELLS = "SELECT window_start, key_id, metric, bucket, sum(n) FROM histograms GROUP BY ALL ORDER BY ALL"


def _deltas():
    """New windows, known ones, both at once, and one that comes hours late."""
    minutes = ([0, 1], [1, 2, 2], [2], [3, 4, -500], [-500, 4, 5])
    first, found = 0, []
    for number, ats in enumerate(minutes):
        values = [
            value(f"{number}-{i}", at=NOW + 60 * at + i, pool="ab"[(i + number) % 2], input_tokens=10 + i)
            for i, at in enumerate(ats)
        ]
        found.append(delta(values, first=first))
        first += len(values)
    return found


def _stored(store):
    return [store.cursor().execute(query).fetchall() for query in (_WINDOWS, _CELLS)]


@pytest.mark.parametrize("together", [(1, 1, 1, 1, 1), (5,), (2, 3), (3, 1, 1)])
def test_what_is_stored_does_not_depend_on_what_comes_together(tmp_path, together):
    with Store.open(tmp_path / "one.duckdb") as one, Store.open(tmp_path / "other.duckdb") as other:
        deltas = list(enumerate(_deltas()))
        for number, part in deltas:
            one.apply([(0, number, part)])
        for count in together:
            other.apply([(0, number, part) for number, part in deltas[:count]])
            deltas = deltas[count:]
        assert _stored(other) == _stored(one)
        assert one.totals()["requests"] == 12


def test_keys_that_fold_into_one_are_added_up_in_one_row(tmp_path):
    with Store.open(tmp_path / "s.duckdb", windows=WindowSettings(max_pools=1)) as store:
        for number in range(2):  # inserted, then added to
            values = [value(f"{number}-{i}", model=f"m{i}") for i in range(4)]
            store.apply([(0, number, delta(values, first=4 * number))])
            rows = store.cursor().execute("SELECT key_id, requests FROM windows ORDER BY key_id").fetchall()
            assert rows == [(0, 1 + number), (1, 3 + 3 * number)]
