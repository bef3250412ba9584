from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.errors import InputError
from pipeline.evaluate.trace import read_trace

HEAD = "arrived_at,input_tokens,output_tokens\n"
POOL = '[[pools]]\nmodel = "m"\nprofile = "llama-3.1-8b"\naccelerator = "h100-sxm"\n'


def written(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("", ("empty",)),
        ("0,10,5\nnan,10,5\n", ("trace.csv, line 3", "arrived_at", "nan")),
        ("0,10,5\n1,inf,5\n", ("trace.csv, line 3", "input_tokens", "inf")),
        ("0,10,5\n1,10,5\n2,-1,5\n", ("trace.csv, line 4", "input_tokens", "'-1'")),
        ("0,10,5\n1,10,\n", ("trace.csv, line 3", "output_tokens", "empty")),
        ("0,10,5\n1,10,many\n", ("trace.csv", "CSV Error on Line: 3")),
        ("0,10,5\n1,10,99999999999\n", ("trace.csv, line 3", "output_tokens", "99999999999")),
        ("5,10,5\n7,10,5\n6,10,5\n", ("trace.csv, line 4", "arrived_at", "sort")),
        ("-5,10,5\n", ("trace.csv, line 2", "arrived_at", "'-5'")),
        ("0,10,5\n1e10,10,5\n", ("days",)),
        ("1767225600000,10,5\n1767225601000,10,5\n", ("milliseconds",)),
    ],
)
def test_a_faulty_trace_is_refused_with_its_line(tmp_path: Path, rows: str, words: tuple[str, ...]) -> None:
    path = written(tmp_path, HEAD + rows)
    pool = written(tmp_path, POOL, "pool.toml")
    result = CliRunner().invoke(app, ["evaluate", str(path), "--pool", str(pool)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert all(word in result.stderr for word in words), result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--policies", "nobody"), 2, "nobody"),
        (("--policies", ","), 2, "no policy is named"),
        (("--world", "slow=nan"), 2, "slow"),
        (("--world", "fast=2"), 2, "'fast'"),
        (("--world", "slow=1,slow=2"), 2, "twice"),
        (("--lead-time", "soon"), 2, "soon"),
        (("--lengths", "0/5"), 2, "0/5"),
        (("--world", "start-fail=1"), 2, "start-fail of the world must be in [0, 0.9]"),
        (("--lead-time", "0s"), 2, "'0s' is not a duration of 1 s or more"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path: Path, args: tuple[str, ...], code: int, words: str) -> None:
    path, pool = written(tmp_path, HEAD + "0,10,5\n"), written(tmp_path, POOL, "pool.toml")
    result = CliRunner().invoke(app, ["evaluate", str(path), "--pool", str(pool), *args])
    assert result.exit_code == code
    assert words in result.stderr


def test_a_pool_file_must_hold_one_pool(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + "0,10,5\n")
    for text, code in (("", 78), (POOL + POOL.replace('"m"', '"n"'), 78), ("[[pools]]\nmodel = 3\n", 78)):
        pool = written(tmp_path, text, "pool.toml")
        assert CliRunner().invoke(app, ["evaluate", str(path), "--pool", str(pool)]).exit_code == code


@pytest.mark.slow
def test_times_may_be_dates_and_counts_get_lengths(tmp_path: Path) -> None:
    dated = read_trace(written(tmp_path, HEAD + "2026-01-05T00:00:00Z,10,5\n2026-01-05T00:00:01.5Z,20,0\n"))
    assert dated.requests.arrival_seconds.tolist() == [1_767_571_200.0, 1_767_571_201.5]
    assert dated.requests.output_tokens.tolist() == [5, 1]
    counts = written(tmp_path, "timestamp,requests\n0,3\n60,0\n120,2\n", "counts.csv")
    with pytest.raises(InputError, match="--lengths"):
        read_trace(counts)
    drawn = read_trace(counts, lengths=(4000, 1000))
    assert len(drawn.requests) == 5
    assert drawn.drawn
    assert drawn.end_seconds == pytest.approx(drawn.requests.arrival_seconds[-1], abs=60.0)
    assert np.searchsorted(drawn.requests.arrival_seconds, [60.0, 120.0]).tolist() == [3, 3]
    again = read_trace(counts, lengths=(4000, 1000))
    assert again.requests.arrival_seconds.tolist() == drawn.requests.arrival_seconds.tolist()
    with pytest.raises(InputError, match="line 3"):
        read_trace(written(tmp_path, "timestamp,requests\n0,3\n60,-1\n", "counts.csv"), lengths=(1, 1))


def test_a_trace_of_counts_ends_with_its_last_bin_and_may_be_taken_in_part(tmp_path: Path) -> None:
    rows = "timestamp,requests\n" + "".join(f"{60 * place},{count}\n" for place, count in enumerate((0, 2, 3, 0, 0)))
    path = written(tmp_path, rows, "counts.csv")
    assert read_trace(path, lengths=(10, 5)).end_seconds == 300.0, "two silent bins are part of it"
    assert read_trace(path, lengths=(10, 5), limit=5).end_seconds == 300.0, "nothing is left out"
    part = read_trace(path, lengths=(10, 5), limit=2)
    assert (len(part.requests), part.end_seconds) == (2, 120.0)
    many = written(tmp_path, "timestamp,requests\n0,4000000\n60,4000000\n", "many.csv")
    with pytest.raises(InputError, match="--limit"):
        read_trace(many, lengths=(10, 5))


def test_text_in_another_encoding_is_refused_without_an_option_that_there_is_not(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes(("note," + HEAD).encode() + "gr\xf6\xdfe,0,10,5\n".encode("latin-1"))
    with pytest.raises(InputError, match="iconv -f LATIN1") as refused:
        read_trace(path)
    assert "--encoding" not in str(refused.value)
