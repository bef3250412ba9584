"""Tables on narrow terminals: names and numbers stay whole."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from pipeline.cli.tables import laid_out, short_number

COLUMNS = ("model", "pool", "desired", "expires (UTC)")
ROWS = [("meta-llama/Llama-3.3-70B-Instruct", "chat", 4, "2026-11-10 20:00:00"), ("m", "batch", None, "")]


def printed(
    columns: tuple[str, ...], rows: Sequence[tuple[object, ...]], width: int, *, blocks: bool = True
) -> list[str]:
    sink = io.StringIO()
    Console(file=sink, width=width).print(laid_out(columns, rows, width, blocks=blocks))
    return [line.rstrip() for line in sink.getvalue().splitlines()]


def test_what_fits_is_a_row_a_line() -> None:
    lines = printed(COLUMNS, ROWS, 80)
    assert len(lines) == 3
    assert lines[1].split() == ["meta-llama/Llama-3.3-70B-Instruct", "chat", "4", "2026-11-10", "20:00:00"]


def test_cells_wrap_between_words_so_that_names_stay_whole() -> None:
    lines = printed(COLUMNS, ROWS, 66)
    assert any("meta-llama/Llama-3.3-70B-Instruct" in line for line in lines)
    assert any(line.endswith("2026-11-10") for line in lines)
    assert any(line.strip() == "20:00:00" for line in lines), "the time is on a line of its own"


def test_long_names_break_between_their_parts_and_dates_do_not() -> None:
    lines = printed(COLUMNS, ROWS, 48)
    name = "".join(line[: line.index("  ") if "  " in line else None].strip() for line in lines[1:-1])
    assert name == "meta-llama/Llama-3.3-70B-Instruct"
    assert any("2026-11-10" in line for line in lines)


def test_where_no_parts_fit_each_row_is_a_block() -> None:
    lines = printed((*COLUMNS, "reason"), [(*ROWS[0], "forecast_up"), (*ROWS[1], "stabilising")], 38)
    assert [line.split() for line in lines[-3:]] == [["model", "m"], ["pool", "batch"], ["reason", "stabilising"]]
    assert "" in lines, "an empty line between two blocks"
    assert not any(line.startswith("desired") for line in lines[lines.index("") :]), "what is empty is left out"
    assert all(len(line) <= 38 for line in lines)


def test_a_pipe_never_gets_blocks() -> None:
    assert any(line.startswith("model ") for line in printed(COLUMNS, ROWS, 20, blocks=True))
    assert not any(line.startswith("model ") for line in printed(COLUMNS, ROWS, 20, blocks=False))
    assert len(printed(COLUMNS, [("m" * 200, "p" * 90, 1, "")], 400, blocks=False)) == 2


def test_two_columns_and_no_rows_stay_a_table() -> None:
    assert printed(("what", "value"), [("a" * 30, "b" * 30)], 40)[0].split() == ["what", "value"]
    assert printed(COLUMNS, [], 20)[0] != ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.42071, "0.4207"), (53.764, "53.76"), (14_832.4, "14,832"), (6e4, "60,000"), (-2_670.2, "-2,670")],
)
def test_large_numbers_have_no_exponent(value: float, text: str) -> None:
    assert short_number(value) == text
