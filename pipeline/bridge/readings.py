"""Metrics of inference servers in one vocabulary: the text of a scrape to cumulative values by series. No I/O.

Names are those of vLLM 0.33, SGLang 0.5.23 and Text Generation Inference 3 (2026-11), and what they were called before;
names of one server do not occur in another, so nobody has to say which it is. A colon that a collector has made an
underscore is understood. What is not in the tables is not parsed at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import CodecError
from pipeline.exposition_sample import read_sample

__all__ = ["MAX_SERIES", "Reading", "Series", "read_exposition"]

#: Most series of one target that are kept; a server of many engines has some thousands.
MAX_SERIES = 20_000

#: (quantity, part, labels): part is empty for a counter, else ``sum``, ``count`` or the upper bound of a bucket.
Series = tuple[str, str, str]

#: Counters, without ``_total``. ``requests.*`` by status.
_COUNTERS = {
    "vllm:request_success": "requests",  # by its label finished_reason
    "vllm:admission_rejections": "requests.rejected",
    "vllm:prompt_tokens": "prompt_tokens",
    "vllm:generation_tokens": "generation_tokens",
    "vllm:prompt_tokens_cached": "cached_tokens",
    "vllm:prefix_cache_hits": "cache_hits",  # tokens
    "vllm:gpu_prefix_cache_hits": "cache_hits",  # before
    "vllm:num_preemptions": "preemptions",
    "sglang:num_requests": "requests.ok",
    "sglang:num_aborted_requests": "requests.cancelled",  # not among num_requests
    "sglang:prompt_tokens": "prompt_tokens",
    "sglang:generation_tokens": "generation_tokens",
    "sglang:cached_tokens": "cached_tokens",
    "sglang:num_retracted_requests": "preemptions",
    "tgi_request_success": "requests.ok",
    "tgi_request_failure": "requests",  # by its label err
}
#: ``itl_seconds`` is per token, ``tpot_seconds`` the mean of a request; both have the mean time of an output token.
_HISTOGRAMS = {
    "vllm:request_prompt_tokens": "input_tokens",
    "vllm:request_generation_tokens": "output_tokens",
    "vllm:time_to_first_token_seconds": "ttft_seconds",
    "vllm:request_time_per_output_token_seconds": "tpot_seconds",
    "vllm:inter_token_latency_seconds": "itl_seconds",
    "vllm:time_per_output_token_seconds": "itl_seconds",  # before
    "vllm:e2e_request_latency_seconds": "e2e_seconds",
    "vllm:request_queue_time_seconds": "queue_seconds",
    "sglang:prompt_tokens_histogram": "input_tokens",
    "sglang:generation_tokens_histogram": "output_tokens",
    "sglang:time_to_first_token_seconds": "ttft_seconds",
    "sglang:request_time_per_output_token_seconds": "tpot_seconds",
    "sglang:inter_token_latency_seconds": "itl_seconds",
    "sglang:time_per_output_token_seconds": "itl_seconds",
    "sglang:e2e_request_latency_seconds": "e2e_seconds",
    "sglang:queue_time_seconds": "queue_seconds",
    "tgi_request_input_length": "input_tokens",
    "tgi_request_generated_tokens": "output_tokens",
    "tgi_request_mean_time_per_token_duration": "tpot_seconds",
    "tgi_request_duration": "e2e_seconds",
    "tgi_request_queue_duration": "queue_seconds",
}
#: Why vLLM's requests ended, and TGI's errors; any other reason of vLLM is an answer, any other of TGI an error.
_STATUS = {"abort": "cancelled", "error": "error"}
_START = "process_start_time_seconds"
_NAME = re.compile(r"(?:# (?P<about>TYPE|HELP) )?(?:kserve_)?(?:(?P<engine>vllm|sglang)[:_])?(?P<name>[a-zA-Z0-9_]+)")
_SUFFIX = re.compile(r"_(total|sum|count|bucket|created)$")


@dataclass(frozen=True, slots=True)
class Reading:
    """Cumulative values of one scrape by series; ``started`` is the start of the server's process, epoch seconds (None:
    not told).
    """

    values: Mapping[Series, float]
    started: float | None


def read_exposition(text: str, model_name: str | None = None) -> Reading:
    """Read the text of a scrape (Prometheus' text format); ``model_name`` keeps only series with that label.

    Raises:
        CodecError: a line of a metric that is wanted is malformed, a value is impossible, there are too many series, or
            no request counter of a known server is among them.
    """
    values: dict[Series, float] = {}
    started = None
    known = False
    read = 0
    for line in text.splitlines():
        named = _NAME.match(line)
        if named is None:
            continue
        base, part = _base(f"{named['engine']}:{named['name']}" if named["engine"] else named["name"])
        known = known or base in _COUNTERS  # counters that have counted nothing yet have no sample
        if named["about"] or not (base == _START or base in _COUNTERS or base in _HISTOGRAMS):
            continue
        read += 1
        if read > MAX_SERIES:
            raise CodecError(f"more than {MAX_SERIES} series of requests and tokens")
        _, labels, value, _ = read_sample(line)
        if base == _START:
            started = value
        elif model_name is None or labels.get("model_name", model_name) == model_name:
            series = _series(base, part, labels)
            if series is not None:
                values[series] = value
    if not known:
        raise CodecError("no request or token counter of vLLM, SGLang or TGI is among the metrics")
    return Reading(values, started)


def _base(name: str) -> tuple[str, str]:
    """The name without its suffix, and the suffix; TGI's counters have none."""
    suffix = _SUFFIX.search(name)
    return (name[: suffix.start()], suffix[1]) if suffix else (name, "total")


def _series(base: str, part: str, labels: Mapping[str, str]) -> Series | None:
    """The series of a sample; None: it adds nothing to what the others say."""
    if base in _COUNTERS:
        if part != "total":
            return None
        quantity = _COUNTERS[base]
        if quantity == "requests":
            quantity = f"requests.{_status(labels)}"
        return quantity, "", f"{base}{_text(labels)}"
    if part == "bucket":
        bound = _bound(labels.get("le", ""))
        return _HISTOGRAMS[base], bound, f"{base}{_text({k: v for k, v in labels.items() if k != 'le'})}"
    return (_HISTOGRAMS[base], part, f"{base}{_text(labels)}") if part in ("sum", "count") else None


def _status(labels: Mapping[str, str]) -> str:
    if "err" in labels:  # TGI
        return "rejected" if labels["err"] == "overloaded" else "error"
    return _STATUS.get(labels.get("finished_reason", ""), "ok")


def _bound(text: str) -> str:
    try:
        bound = float(text)
    except ValueError:
        bound = math.nan
    if math.isnan(bound) or bound < 0.0:
        raise CodecError(f"a bucket up to {text[:32]!r}")
    return repr(bound)


def _text(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{name}={value!r}" for name, value in sorted(labels.items())) + "}" if labels else ""
