"""Published times of gpt-oss and of sparse attention beside what sizing predicts: a check, and never a fit.

    python benchmarks/sizing/published.py

Every figure names where it was read. They were read on 2026-12-01 by hand, from threads and pages that anybody may have
made: conditions are theirs, and where one is not told the source says what was taken. Prints Markdown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sizing.calibration.table import predict_point
from sizing.replica.memory import resolve
from sizing.replica.step_time import step_model
from sizing.types import Deployment

GPT_OSS, DEEPSEEK = "openai/gpt-oss-120b", "deepseek-ai/DeepSeek-V3.2"


@dataclass(frozen=True, slots=True)
class Published:
    """Milliseconds per output token by concurrency. ``what``: "tpot" without the first token; "throughput" concurrency
    over output tokens per second; "step" a static batch that decodes."""

    source: str
    model: str
    gpu: str
    engine: str
    what: str
    input_tokens: int
    output_tokens: int
    milliseconds: dict[int, float]
    tensor_parallel: int = 1
    data_parallel: int = 1


def _from_rate(tokens_per_second: dict[int, float]) -> dict[int, float]:
    return {clients: clients / rate * 1e3 for clients, rate in tokens_per_second.items()}


#: InferenceX draws lengths from 0.8 to 1 of the nominal ones: their means.
_INFERENCEX = "SemiAnalysisAI/InferenceX"
PUBLISHED = (
    Published("millstoneai.com, gpt-oss-120b, 2026-01-30; peak rate, prompt of 1,024 taken",
              GPT_OSS, "h100-sxm", "vllm", "throughput", 1024, 1024, _from_rate({4: 511})),
    Published("millstoneai.com, gpt-oss-120b, 2026-01-30; peak rate, prompt of 1,024 taken",
              GPT_OSS, "h200-sxm", "vllm", "throughput", 1024, 1024, _from_rate({10: 849})),
    Published("millstoneai.com, gpt-oss-120b, 2026-01-30; peak rate, prompt of 1,024 taken",
              GPT_OSS, "rtx-pro-6000", "vllm", "throughput", 1024, 1024, _from_rate({4: 361})),
    Published("millstoneai.com, gpt-oss-120b, 2026-01-30; peak rate, prompt of 1,024 taken",
              GPT_OSS, "rtx-pro-6000", "vllm", "throughput", 1024, 1024, _from_rate({6: 664}), 2),
    Published(f"{_INFERENCEX} issue 828, 2026-03-01",
              GPT_OSS, "h100-sxm", "vllm", "tpot", 922, 922, {4: 3.72, 8: 4.05, 16: 4.83, 32: 5.82, 64: 7.36}, 8),
    Published(f"{_INFERENCEX} issue 828, 2026-03-01",
              GPT_OSS, "h100-sxm", "vllm", "tpot", 922, 7373, {4: 3.68, 8: 4.00, 16: 4.53, 32: 5.65, 64: 16.01}, 8),
    Published(f"{_INFERENCEX} issue 828, 2026-03-01",
              GPT_OSS, "h100-sxm", "vllm", "tpot", 7373, 922, {4: 3.95, 8: 4.59}, 8),
    Published("vllm-project/vllm issue 30326, 2025-12-09, before a regression",
              GPT_OSS, "h200-sxm", "vllm", "throughput", 1024, 1024, _from_rate({8: 1947.66, 128: 12781.05}), 8),
    Published(f"{_INFERENCEX} pull request 1061, 2026-04-17, vLLM 0.17.0",
              GPT_OSS, "mi300x", "vllm", "tpot", 1024, 1024, {64: 31.4, 96: 36.6, 128: 41.3, 256: 58.3}),
    Published("vllm-project/vllm pull request 55934, 2026-09-08, AITER's kernels",
              GPT_OSS, "mi300x", "vllm", "throughput", 1024, 1024,
              _from_rate({1: 264, 8: 1416, 32: 3946, 64: 6248, 128: 9319}), 8),
    Published("vllm-project/vllm pull request 55934, 2026-09-08, Triton's kernels",
              GPT_OSS, "mi300x", "vllm", "throughput", 1024, 1024,
              _from_rate({1: 133, 8: 789, 32: 2229, 64: 3437, 128: 5233}), 8),
    Published(f"{_INFERENCEX} pull request 1531, 2026-05-20, vLLM 0.19.0; rates taken to count inputs and outputs",
              GPT_OSS, "mi355x", "vllm", "throughput", 1024, 1024,
              _from_rate({4: 831, 8: 1393.5, 16: 2274.5, 32: 3392.5, 64: 5286.5, 128: 8033.5})),
    Published(f"{_INFERENCEX} pull request 1531, 2026-05-20, vLLM 0.19.0; rates taken to count inputs and outputs",
              GPT_OSS, "mi355x", "vllm", "throughput", 1024, 1024, _from_rate({4: 1249, 8: 2126.5}), 4),
    Published("sgl-project/sglang issue 15025, 2026-01-08",
              DEEPSEEK, "b200-sxm", "sglang", "step", 4096, 512,
              {1: 19.18, 8: 19.88, 16: 25.30, 64: 64 / 2392.6 * 1e3}, 1, 8),
    Published("sgl-project/sglang pull request 20062, 2026-03-06; Hopper, H200 taken (an H100 is too small)",
              DEEPSEEK, "h200-sxm", "sglang", "throughput", 2048, 1024, _from_rate({16: 16384 / 23.25}), 8),
)  # fmt: skip


def predicted_milliseconds(row: Published, clients: int) -> tuple[float, float, float]:
    """Return what sizing predicts for ``clients``, and the ends of its interval of 90 %."""
    expert_parallel = row.data_parallel
    answer = predict_point(
        {
            "model": row.model, "gpu": row.gpu, "engine": row.engine, "tp": row.tensor_parallel, "ep": expert_parallel,
            "dp": row.data_parallel, "isl": row.input_tokens, "osl": row.output_tokens, "concurrency": clients,
        }
    )  # fmt: skip
    assert answer["tpot_ms_p50"] is not None, answer["error"]
    value = float(answer["tpot_ms_p50"])
    lower, upper = (float(answer[f"tpot_ms_{end}"]) / value for end in ("lower", "upper"))
    if row.what == "throughput":
        value = clients / float(answer["tokens_per_second"]) * 1e3
    if row.what == "step":
        resolved = resolve(
            Deployment(
                row.model,
                row.gpu,
                row.tensor_parallel,
                data_parallel=row.data_parallel,
                expert_parallel=expert_parallel,
                engine=row.engine,
            )
        )
        lane = max(clients / row.data_parallel, 1.0)
        value = step_model(resolved).step_seconds(lane, row.input_tokens + row.output_tokens / 2) * 1e3
    return value, value * lower, value * upper


def main() -> None:
    print("| model, GPUs, input / output | concurrency: published, predicted (error), ms | source |\n|---|---|---|")
    errors, inside = [], []
    for row in PUBLISHED:
        cells = []
        for clients, published in row.milliseconds.items():
            value, lower, upper = predicted_milliseconds(row, clients)
            errors.append(abs(value / published - 1))
            inside.append(lower <= published <= upper)
            cells.append(f"{clients}: {published:.1f}, {value:.1f} ({value / published - 1:+.0%})")
        gpus = row.tensor_parallel * row.data_parallel
        name = f"{row.model.rpartition('/')[2]}, {gpus} × {row.gpu}, {row.input_tokens:,} / {row.output_tokens:,}"
        print(f"| {name} | {'; '.join(cells)} | {row.source} |")
    median, mean, p90 = np.median(errors), np.mean(errors), np.quantile(errors, 0.9)
    print(f"\n{len(errors)} points: median {median:.1%}, mean {mean:.1%}, p90 {p90:.1%}; inside {np.mean(inside):.0%}.")


if __name__ == "__main__":
    main()
