"""Real reports of the tools, kept beside the checkout, against what is right for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from sizing.calibration.loadtests import read_report
from sizing.calibration.loadtests.text import parse_report
from sizing.errors import InvalidInput

FIELD = Path(__file__).resolve().parents[6] / "shared" / "field"
RIGHT = [
    # file, tool, input, output, closed, concurrency, TPOT ms, TTFT ms
    ("loadtests/vllm-bench-0.32-c1-no-e2el.json", "vllm", 300.1, 40, True, 0.995, 6.72, 121.7),
    ("loadtests/vllm-bench-0.32-c4.json", "vllm", 300.1, 40, True, 3.976, 10.36, 236.9),
    ("loadtests/vllm-bench-0.32-rate3-detailed.json", "vllm", 300.1, 40, False, None, 17.48, 181.4),
    ("loadtests/guidellm-0.8.1-concurrent-1.json", "guidellm", 310, 40, True, 0.977, 12.84, 172.5),
    ("loadtests/guidellm-0.8.1-concurrent-4.json", "guidellm", 310, 40, True, 3.745, 14.84, 330.3),
    ("loadtests/aiperf-0.13-completions-c4.json", "aiperf", 300, 40, True, 3.90, 10.67, 225.9),
    ("loadtests/inference-perf-0.7-constant-rate2.json", "inference-perf", 299.8, 39.46, False, None, 24.60, 222.3),
    ("loadtests/inference-perf-0.7-concurrent-c4.json", "inference-perf", 304.2, 38.6, True, 3.81, 22.96, 283.5),
    ("loadtests/sglang-0.5.23-bench-c4.jsonl", "sglang", 300, 40, True, 3.977, 11.18, 282.3),
    ("sizing/loadtests/vllm_bench_serving_2025-05.json", "vllm", 999, 270.17, False, None, 13.58, 54.6),
    (
        "sizing/loadtests/sglang_bench_serving_2lines.jsonl",
        "sglang",
        302.1,
        195.8,
        False,
        None,
        11.81,
        91.7,
    ),
    ("sizing/loadtests/profile_genai_perf.csv", "genai-perf", 3000, 174.45, False, None, 30.3, 1146.3),
    ("sizing/loadtests/inferencex_agg.json", "inferencex", 1024, 1024, True, 32, 15.1, 190.0),
]


@pytest.mark.parametrize("row", RIGHT, ids=lambda row: Path(row[0]).name)
def test_a_real_report_gives_its_true_values(
    row: tuple[str, str, float, float, bool, float | None, float, float],
) -> None:
    name, tool, input_tokens, output_tokens, closed, concurrency, tpot, ttft = row
    path = FIELD / name
    if not path.exists():
        pytest.skip(f"{path.name} is not beside this checkout")
    test = read_report(parse_report(path.read_text(encoding="utf-8-sig"), path.name))
    point = test.points[0]
    assert test.tool == tool
    assert not [note for note in test.notes if "read as" in note], "its figures agree as they are"
    assert point.closed_loop == closed
    assert point.input_tokens == pytest.approx(input_tokens, rel=1e-3)
    assert point.output_tokens == pytest.approx(output_tokens, rel=1e-3)
    assert point.tpot_seconds * 1e3 == pytest.approx(tpot, rel=2e-3)
    assert (point.ttft_seconds or 0.0) * 1e3 == pytest.approx(ttft, rel=2e-3)
    if concurrency is not None:
        assert point.concurrency == pytest.approx(concurrency, rel=3e-3)


def test_the_summary_of_a_sweep_is_refused() -> None:
    path = FIELD / "sizing/loadtests/inference-perf_summary_batch_size.json"
    if not path.exists():
        pytest.skip(f"{path.name} is not beside this checkout")
    with pytest.raises(InvalidInput, match="summary over all stages"):
        read_report(parse_report(path.read_text(), path.name))
