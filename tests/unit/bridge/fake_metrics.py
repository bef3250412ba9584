"""A server's metrics, as vLLM, SGLang and TGI write them, from the requests that it has finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

BOUNDS = (0.05, 0.5, 1.0, 5.0, 50.0, 500.0, 5_000.0)


@dataclass(frozen=True)
class Finished:
    """One request."""

    status: str = "ok"
    input_tokens: int = 100
    output_tokens: int = 20
    cached_tokens: int = 10
    ttft_seconds: float = 0.3
    tpot_seconds: float = 0.02
    queue_seconds: float = 0.1
    e2e_seconds: float = 2.0


def histogram(name: str, labels: str, values: Sequence[float]) -> list[str]:
    lines = [f"# TYPE {name} histogram"]
    for bound in (*BOUNDS, float("inf")):
        le = "+Inf" if bound == float("inf") else repr(bound)
        lines.append(f'{name}_bucket{{{labels},le="{le}"}} {float(sum(v <= bound for v in values))}')
    return [*lines, f"{name}_sum{{{labels}}} {float(sum(values))}", f"{name}_count{{{labels}}} {float(len(values))}"]


@dataclass
class Server:
    """Counters that only grow until the process starts again."""

    engine: str = "vllm"
    model: str = "llama"
    done: list[Finished] = field(default_factory=list)
    started: float | None = 1_700_000_000.0

    def finish(self, count: int, request: Finished | None = None) -> None:
        self.done += [request or Finished()] * count

    def restart(self, started: float | None = None) -> None:
        self.done, self.started = [], started

    def text(self) -> str:
        lines = [
            "# HELP python_gc_objects_collected_total Objects",
            'python_gc_objects_collected_total{generation="0"} 9',
        ]
        if self.started is not None:
            lines.append(f"process_start_time_seconds {self.started}")
        return "\n".join([*lines, *getattr(self, f"_{self.engine}")()]) + "\n"

    def _of(self, name: str) -> list[float]:
        return [float(getattr(r, name)) for r in self.done if r.status == "ok"]

    def _count(self, *statuses: str) -> float:
        return float(sum(r.status in statuses for r in self.done))

    def _vllm(self, itl: str = "vllm:request_time_per_output_token_seconds") -> list[str]:
        own = f'engine="0",model_name="{self.model}"'
        lines = ["# TYPE vllm:request_success_total counter"]
        for reason, status in (("stop", "ok"), ("length", "-"), ("abort", "cancelled"), ("error", "error")):
            lines.append(f'vllm:request_success_total{{finished_reason="{reason}",{own}}} {self._count(status)}')
        lines += [
            f"vllm:prompt_tokens_total{{{own}}} {sum(self._of('input_tokens'))}",
            f"vllm:generation_tokens_total{{{own}}} {sum(self._of('output_tokens'))}",
            f"vllm:prompt_tokens_cached_total{{{own}}} {sum(self._of('cached_tokens'))}",
            f"vllm:num_requests_running{{{own}}} 3.0",
        ]
        for name, quantity in (
            ("vllm:request_prompt_tokens", "input_tokens"),
            ("vllm:request_generation_tokens", "output_tokens"),
            ("vllm:time_to_first_token_seconds", "ttft_seconds"),
            (itl, "tpot_seconds"),
            ("vllm:e2e_request_latency_seconds", "e2e_seconds"),
            ("vllm:request_queue_time_seconds", "queue_seconds"),
        ):
            lines += histogram(name, own, self._of(quantity))
        return lines

    def _old_vllm(self) -> list[str]:
        """An older one: token counters without histograms over requests, times per token, no queue."""
        lines = self._vllm("vllm:time_per_output_token_seconds")
        gone = ("vllm:request_prompt", "vllm:request_generation", "vllm:request_queue", "vllm:prompt_tokens_cached")
        return [line for line in lines if not line.removeprefix("# TYPE ").startswith(gone)]

    def _sglang(self) -> list[str]:
        own = f'model_name="{self.model}"'
        lines = ["# TYPE sglang:num_requests_total counter", "# TYPE sglang:cached_tokens_total counter"]
        if self.done:  # series are born with the first request
            lines += [
                f"sglang:num_requests_total{{{own}}} {self._count('ok')}",
                f"sglang:num_aborted_requests_total{{{own}}} {self._count('cancelled')}",
                f"sglang:prompt_tokens_total{{{own}}} {sum(self._of('input_tokens'))}",
                f"sglang:generation_tokens_total{{{own}}} {sum(self._of('output_tokens'))}",
                f'sglang:cached_tokens_total{{cache_source="device",{own}}} {sum(self._of("cached_tokens"))}',
            ]
            lines += histogram("sglang:time_to_first_token_seconds", own, self._of("ttft_seconds"))
            lines += histogram("sglang:inter_token_latency_seconds", own, self._of("tpot_seconds"))
            lines += histogram("sglang:e2e_request_latency_seconds", own, self._of("e2e_seconds"))
        return lines

    def _tgi(self) -> list[str]:
        lines = [f'tgi_request_success{{method="generate"}} {self._count("ok"):g}']
        lines.append(f'tgi_request_failure{{err="overloaded"}} {self._count("rejected"):g}')
        lines += histogram("tgi_request_input_length", 'method="generate"', self._of("input_tokens"))
        lines += histogram("tgi_request_generated_tokens", 'method="generate"', self._of("output_tokens"))
        lines += histogram("tgi_request_duration", 'method="generate"', self._of("e2e_seconds"))
        lines += histogram("tgi_request_mean_time_per_token_duration", 'method="generate"', self._of("tpot_seconds"))
        return lines
