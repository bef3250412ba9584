"""What NVIDIA Dynamo's planner knows of one engine: iteration times by prompt tokens and decode KV, rates from them.

Source: ai-dynamo/dynamo components/src/dynamo/planner/core/perf_model/agg.py (518a702). Dynamo fits iteration times by
a regression; here the engine's true times stand for it, so that the planner is never judged by its fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.evaluate.policies.base import Setup
from sizing.replica.step_time import StepModel

__all__ = ["DynamoEngine"]


@dataclass(frozen=True, slots=True)
class DynamoEngine:
    """One engine: step times, the token budget of a step, sequences at once, tokens that the KV cache holds."""

    step: StepModel
    max_batched_tokens: int
    max_num_seqs: int
    kv_tokens: float

    @classmethod
    def of(cls, setup: Setup) -> DynamoEngine:
        """Return the engine of a pool."""
        return cls(setup.step, setup.pool.max_batched_tokens, setup.pool.max_num_seqs, setup.kv_tokens)

    def wall_seconds(self, prompt_tokens: float, batch: float, decode_kv_tokens: float, input_tokens: float) -> float:
        """Return the time of one iteration; prompts are ``input_tokens`` long."""
        context = decode_kv_tokens / batch if batch > 0 else 0.0
        return self.step.step_seconds(batch, context, prompt_tokens, input_tokens / 2)

    def next_ttft_seconds(
        self, queued_tokens: float, input_tokens: float, batch: float, decode_kv_tokens: float
    ) -> float:
        """Return the time to first token of the next request behind what is queued, in steps of the token budget."""
        left, seconds = queued_tokens + input_tokens, 0.0
        whole, rest = divmod(left, self.max_batched_tokens)
        full = self.wall_seconds(self.max_batched_tokens, batch, decode_kv_tokens, input_tokens) if whole else 0.0
        seconds += whole * full
        if rest > 0:
            seconds += self.wall_seconds(rest, batch, decode_kv_tokens, input_tokens)
        return seconds

    def next_itl_seconds(
        self, batch: float, decode_kv_tokens: float, input_tokens: float, output_tokens: float
    ) -> float:
        """Return the next time between tokens, with prompts piggybacked as they come on average."""
        prompts = min(batch * input_tokens / max(1.0, output_tokens), float(self.max_batched_tokens))
        return self.wall_seconds(prompts, batch, decode_kv_tokens, input_tokens)

    def best_requests_per_second(
        self,
        input_tokens: float,
        output_tokens: float,
        ttft_seconds: float | None,
        itl_seconds: float | None,
    ) -> float:
        """Return the greatest rate within both objectives: batch / (output tokens · iteration time).

        The batch is at most what KV, the engine's limit and the balance of prompts and answers allow: prompts /
        (budget - batch) <= output tokens. When not even a batch of 1 is within the objectives, its rate.
        """
        context = input_tokens + output_tokens / 2
        most = min(max(1, int(self.kv_tokens / max(1.0, context))), self.max_num_seqs, self.max_batched_tokens - 1)
        best = 0.0
        for batch in range(1, max(most, 1) + 1):
            budget = self.max_batched_tokens - batch
            if batch > 1 and (budget <= 0 or input_tokens / budget > output_tokens):
                break
            kv = batch * context
            itl = self.next_itl_seconds(batch, kv, input_tokens, output_tokens)
            prompts = min(batch * input_tokens / max(1.0, output_tokens), float(self.max_batched_tokens))
            ttft = self.next_ttft_seconds(prompts, input_tokens, batch, kv)
            if itl > (itl_seconds or math.inf) or ttft > (ttft_seconds or math.inf):
                return best or 1.0 / (output_tokens * itl)
            best = batch / (output_tokens * itl)
        return best
