"""Measurements that contradict the catalogue's entry: named, never called calibrated, still sensible over the load."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from sizing.calibration.calibrator import Calibrator
from sizing.calibration.measurement import ObservedPoint
from sizing.calibration.table import calibrations, predict_point
from sizing.catalog.user import catalog_from_mapping
from sizing.replica.memory import resolve
from sizing.types import Deployment
from tests.unit.sizing.calibration.test_hardware import BOX, TINY

CATALOG = catalog_from_mapping({"gpus": {"box": {"like": "l4"}}}, {"tiny": TINY})


def row(concurrency: int) -> dict[str, Any]:
    return {"model": "tiny", "gpu": "box", "isl": 300, "osl": 40, "concurrency": concurrency}


def learned(*levels: int) -> Any:
    rows = [row(c) | {"tpot_ms": BOX[c][0], "ttft_ms": BOX[c][1]} for c in levels]
    return calibrations(rows, catalog=CATALOG)


def test_an_entry_far_too_fast_is_named_with_its_factor() -> None:
    (calibration,) = learned(1, 8).values()
    assert 40 < calibration.entry_ratio < 80
    assert calibration.entry_warning is not None
    times = f"{calibration.entry_ratio:.0f}"
    assert calibration.entry_warning.startswith(
        f"this catalogue entry is off by about {times}×: a step of tiny on box takes {times}"
    )


@pytest.mark.parametrize("levels", [(1, 8), (4, 16)])
def test_what_is_learned_of_it_rises_with_load_and_is_never_called_calibrated(levels: tuple[int, int]) -> None:
    known = learned(*levels)
    answers = [predict_point(row(c), catalog=CATALOG, calibrations=known) for c in range(1, 32)]
    tpots = [answer["tpot_ms_p50"] for answer in answers]
    assert tpots == sorted(tpots)
    assert {answer["confidence"] for answer in answers} == {"extrapolated"}
    for level in levels:
        assert tpots[level - 1] == pytest.approx(BOX[level][0], rel=0.15)
    # It was 11.4 ms at 16, below its own 18.6 ms at 8; measured are 29.5 ms.
    assert tpots[15] == pytest.approx(BOX[16][0], rel=0.15)
    assert answers[15]["ttft_ms_p50"] > answers[7]["ttft_ms_p50"]


def test_a_live_calibration_at_the_clamp_is_not_near_anything() -> None:
    learner = Calibrator(resolve(Deployment("tiny", "box"), CATALOG))
    for level in (1, 8):
        point = ObservedPoint(300, 40, BOX[level][0] / 1e3, BOX[level][1] / 1e3, concurrency=level, closed_loop=True)
        learner.update(point)
        workload = point.workload
    assert learner.calibration.contradicts_entry
    assert not learner.calibration.at(workload, 4.8).near


def test_an_entry_that_is_about_right_is_not_warned_of() -> None:
    built_in = {"model": "llama-3.1-8b", "gpu": "h100", "isl": 1000, "osl": 250, "concurrency": 8}
    predicted = predict_point(built_in)
    rows = [built_in | {"tpot_ms": 1.7 * predicted["tpot_ms_p50"]}]
    (calibration,) = calibrations(rows).values()
    assert calibration.entry_warning is None
    assert predict_point(built_in, calibrations=calibrations(rows))["confidence"] == "calibrated"
    (slow,) = calibrations([built_in | {"tpot_ms": predicted["tpot_ms_p50"] / 4}]).values()
    assert slow.entry_warning is not None
    assert "takes 1/4 times as long" in slow.entry_warning


def test_the_commands_say_it(tmp_path: Any) -> None:
    observed = tmp_path / "observed.csv"
    observed.write_text("model,gpu,isl,osl,concurrency,tpot_ms\nllama-3.1-8b,h100,1000,250,8,80\n")
    result = CliRunner().invoke(app, ["calibrate", "show", str(observed)])
    assert result.exit_code == 0, result.output
    assert "this catalogue entry is off by about" in result.stderr
    assert "tokentide calibrate hardware" in result.stderr
