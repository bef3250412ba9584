"""A store as a month of a hundred pools leaves it: every table in the order in which a controller writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.config.settings import StoreSettings
from pipeline.store.rollups import GRAINS_SECONDS, roll_up, table
from pipeline.store.store import Store
from pipeline.windows.rollup import CLOSED_MEASURES
from pipeline.windows.types import MEASURES

__all__ = ["DAYS", "END", "POOLS", "Month"]

DAY = 86_400
DAYS = 30
POOLS = 100
START = 1_760_486_400  # a midnight
END = START + DAYS * DAY

#: Histogram cells of a base window: ten requests with six values each, hardly two in one bucket.
CELLS = 60

_HORIZONS = "(VALUES (60), (300), (900), (1800), (3600)) h(h)"
_SIGNALS = (
    "(VALUES ('requests_per_second'), ('prefill_tokens_per_second'), ('decode_tokens_per_second'), ('kv_tokens'))"
)


class Month:
    """Fills a store table by table and notes what each takes on the disk, in ``NAME.sizes.json`` beside it."""

    def __init__(self, path: Path, settings: StoreSettings) -> None:
        self._path = path
        self._settings = settings
        self._noted = path.with_suffix(".sizes.json")

    def sizes(self) -> list[tuple[str, int, int]]:
        """(table, rows, bytes) of each table, as noted when it was filled."""
        return [(what, rows, size) for what, rows, size in json.loads(self._noted.read_text())]

    def fill(self) -> None:
        """Make the store, unless it is there."""
        if self._noted.exists():
            return
        self._path.unlink(missing_ok=True)
        sizes = []
        with Store.open(self._path, self._settings) as store:
            connection = store.cursor()
            connection.execute(
                "INSERT INTO keys SELECT i, 'model-' || i % 8, 'pool-' || lpad(i::VARCHAR, 4, '0'), '' "
                f"FROM range({POOLS}) t(i)"
            )
            before = self._size(connection)
            for what, days, statements in self._tables():
                rows = 0
                for hour in range(END - days * DAY, END, 3_600):
                    connection.execute("BEGIN")
                    for statement in statements:
                        rows += connection.execute(statement, {"from": hour, "to": hour + 3_600}).fetchone()[0]
                    connection.execute("COMMIT")
                after = self._size(connection)
                sizes.append((what, rows, after - before))
                before = after
            connection.execute("BEGIN")
            roll_up(connection, None, END)
            connection.execute("COMMIT")
            sizes.append(("rollups of closed windows", self._rollup_rows(connection), self._size(connection) - before))
        self._noted.write_text(json.dumps(sizes))

    @staticmethod
    def _rollup_rows(connection: Any) -> int:
        counts = (connection.execute(f"SELECT count(*) FROM {table(grain)}").fetchone() for grain in GRAINS_SECONDS)
        return sum(count for (count,) in counts)

    def _size(self, connection: Any) -> int:
        connection.execute("CHECKPOINT")
        return self._path.stat().st_size

    def _tables(self) -> list[tuple[str, int, tuple[str, ...]]]:
        def sums(count: int) -> str:
            return ", ".join(f"(hash(w, i, {n}) % {10 ** (2 + n % 5)})::HUGEINT" for n in range(count))

        settings = self._settings
        forecast_days = settings.retention_forecasts_seconds // DAY
        base_days = settings.retention_base_seconds // DAY
        minutes = "range($from, $to, 60) a(w), (SELECT key_id AS i, model, pool FROM keys) k"
        bases = "range($from, $to, 10) a(w), (SELECT key_id AS i FROM keys) k"
        advice = ", ".join(f"'\"field{n}\":', (hash(w, i, {n}) % 100000)::VARCHAR, ','" for n in range(24))
        return [
            (
                "closed windows (a minute each)",
                DAYS,
                (
                    "INSERT INTO steps SELECT w + 60 FROM range($from, $to, 60) a(w)",
                    f"INSERT INTO closed_windows SELECT w + 60, i, w, 60, model, pool, {sums(len(CLOSED_MEASURES))}, "
                    f"0.98, false, 4, 4, 0.2, 0.03 FROM {minutes} ORDER BY w, i",
                ),
            ),
            (
                "base windows (10 seconds each)",
                base_days,
                (f"INSERT INTO windows SELECT w, i, {sums(len(MEASURES))}, w * 1000 FROM {bases} ORDER BY w, i",),
            ),
            (
                "histogram cells (of one day)",
                1,
                (
                    "INSERT INTO histograms SELECT w, i, c % 6, 200 + hash(w, i, c) % 150, 1 + c % 3 "
                    f"FROM {bases}, range({CELLS}) d(c) ORDER BY w, i",
                ),
            ),
            (
                "forecasts",
                forecast_days,
                (
                    "INSERT INTO forecasts SELECT model, pool, s, (w + 60)::DOUBLE, h, "
                    + ", ".join(f"(hash(w, i, h, {n}) % 1000000) / 997.0" for n in range(8))
                    + f" FROM {minutes}, {_SIGNALS} g(s), {_HORIZONS} ORDER BY w, i, s, h",
                ),
            ),
            (
                "recommendations",
                forecast_days,
                (
                    f"INSERT INTO recommendations SELECT model, pool, (w + 60)::DOUBLE, (w - {START}) // 60, "
                    f"concat('{{', {advice}, '\"end\":0}}') FROM {minutes} ORDER BY w, i",
                ),
            ),
            (
                "alerts",
                DAYS,
                (
                    "INSERT INTO alerts SELECT w || '-' || i, model, pool, w::DOUBLE, (w + 300)::DOUBLE, '{\"a\":1}' "
                    f"FROM {minutes} WHERE i % 10 = 0 AND w % 3600 = 0",
                ),
            ),
        ]
