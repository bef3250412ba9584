"""``size --points``: tables as spreadsheets write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.questions import read_questions
from pipeline.errors import InputError

HEADER = "id,model,gpu,isl,osl,request_rate"
ROW = "a,llama-3.1-8b,h100,1000,200,5"
WANTED = dict(zip(HEADER.split(","), ROW.split(","), strict=True))


def asked(folder: Path, text: str) -> Path:
    path = folder / "q.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\n{ROW}\n",
        f"\ufeff{HEADER}\r\n{ROW}\r\n",
        f"{HEADER}\n{ROW}\n".replace(",", ";"),
        f"{HEADER}\n{ROW}\n".replace(",", "\t"),
        f"{HEADER}\n{ROW},\n",
        f"{HEADER},\n{ROW},\n",
        f"{HEADER}\n{ROW}\n".replace(",", " , "),
        f"{HEADER}\n\n,,,,,\n{ROW}\n",
    ],
)
def test_the_same_question_in_every_dress(tmp_path: Path, text: str) -> None:
    assert read_questions(asked(tmp_path, text)) == ([WANTED], ())


@pytest.mark.parametrize("nothing", ["", "NaN", "N/A", "null", "<NA>"])
def test_a_cell_without_a_value_is_none(tmp_path: Path, nothing: str) -> None:
    (row,), _ = read_questions(asked(tmp_path, f"{HEADER}\n{ROW.replace('1000', nothing)}\n"))
    assert row == WANTED | {"isl": None}


def test_a_short_row_has_no_values_at_its_end(tmp_path: Path) -> None:
    (row,), _ = read_questions(asked(tmp_path, f"{HEADER}\na,llama-3.1-8b,h100\n"))
    assert (row["osl"], row["gpu"]) == (None, "h100")


def test_columns_without_use_are_named(tmp_path: Path) -> None:
    _, unused = read_questions(asked(tmp_path, f"{HEADER},rps,tpot_ms\n{ROW},7,1\n"))
    assert unused == ("rps",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        (f"{HEADER}\n", "has no rows"),
        (f"{HEADER}\n{ROW}\n{ROW},9,9\n", r"line 3: more cells \(8\) than the header has columns \(6\)"),
        (f"{HEADER},isl\n{ROW},3000\n", "has the column 'isl' twice"),
        (f"{HEADER.upper()}\n{ROW}\n", "no column 'model' in its first line; it has: ID, MODEL"),
        (f"# exported\n{HEADER}\n{ROW}\n", "no column 'model' in its first line"),
        (f'{HEADER}\n"a,llama\n', "line 2: not CSV"),
    ],
)
def test_what_is_no_table_of_questions_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_questions(asked(tmp_path, text))
