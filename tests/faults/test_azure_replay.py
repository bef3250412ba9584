"""Real traces through the whole pipeline, each process killed three times: DuckDB holds what the traces say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRACES = ROOT.parent / "shared" / "data" / "traces"

pytestmark = [pytest.mark.faults, pytest.mark.integration]


def test_totals_are_exact_although_every_process_is_killed_three_times() -> None:
    if not (TRACES / "azure_llm_2023").is_dir():
        pytest.skip("the Azure LLM traces are not beside the checkout (../shared/data/traces)")
    script = ROOT / "benchmarks" / "replay" / "azure.py"
    command = [sys.executable, str(script), "--traces", str(TRACES), "--day-requests", "60000"]
    command += ["--speed", "300", "--kills", "3"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "EXACT" in done.stdout
    assert "6 processes killed" in done.stdout
