"""The public interface: the names that other programs import, and the examples that show them."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
import sizing

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples" / "api").glob("*.py"))


@pytest.mark.parametrize("package", [pipeline, sizing], ids=["pipeline", "sizing"])
def test_every_public_name_exists_and_says_what_it_is(package) -> None:
    assert package.__all__ == sorted(package.__all__)
    for name in package.__all__:
        found = getattr(package, name)
        assert name == "__version__" or found.__doc__, name
    assert set(package.__all__) <= set(dir(package))


def test_these_names_are_public() -> None:
    assert {"Catalog", "Deployment", "Slo", "Workload", "operating_point", "plan"} <= set(sizing.__all__)
    assert {"Advisor", "Codec", "Expert", "Sink", "SeriesForecaster", "SpikeDetector"} <= set(pipeline.__all__)


@pytest.mark.parametrize("package", ["pipeline", "sizing"])
def test_a_name_that_does_not_exist_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        sys.modules[package].no_such_name  # noqa: B018


def test_importing_the_packages_imports_nothing_heavy() -> None:
    code = "import sys, pipeline, sizing; print(*({'numpy', 'faust', 'duckdb', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("example", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_the_examples_run(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.strip()
