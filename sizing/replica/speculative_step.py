"""The step of an engine that drafts and verifies several tokens per sequence (speculative decoding).

A step drafts k tokens and verifies them with the one that follows, so that every sequence puts k + 1 tokens through the
model but reads its KV cache once. A drafted token costs a share of a plain step. Each is accepted with probability α,
and a step yields (1 - α^(k+1)) / (1 - α) tokens on average (Leviathan, Kalman and Matias 2023, arXiv 2211.17192,
equation 1). Verifying is computing: at large batches, where a plain step computes anyway, it costs more than it yields.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from sizing.errors import InvalidInput
from sizing.replica.step_time import StepModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Drafting", "SpeculativeStep"]


@dataclass(frozen=True, slots=True)
class Drafting:
    """How tokens are drafted: ``draft_tokens`` (k) per step, each accepted with probability ``acceptance`` (α).

    ``draft_cost_ratio`` is what drafting one token takes over a plain step. None of them has a default: they belong to
    the draft model, the model and the text.

    Raises:
        InvalidInput: a number cannot be.
    """

    draft_tokens: int
    acceptance: float
    draft_cost_ratio: float

    def __post_init__(self) -> None:
        if not (1 <= self.draft_tokens <= 64 and 0 <= self.acceptance < 1 and 0 <= self.draft_cost_ratio <= 1):
            raise InvalidInput(
                f"{self.draft_tokens!r} draft tokens with acceptance {self.acceptance!r} and a cost of "
                f"{self.draft_cost_ratio!r} plain steps each cannot be"
            )

    @property
    def tokens_per_step(self) -> float:
        """Tokens that a step yields per sequence, on average.

        >>> Drafting(3, 0.5, 0.1).tokens_per_step  # 1 + 1/2 + 1/4 + 1/8
        1.875
        """
        return (1.0 - self.acceptance ** (self.draft_tokens + 1)) / (1.0 - self.acceptance)


@dataclass(frozen=True, slots=True)
class SpeculativeStep(StepModel):
    """A step model whose decoding sequences verify ``verified_tokens`` tokens each and draft for ``drafting_steps``
    steps.
    """

    verified_tokens: int = 1
    drafting_steps: float = 0.0

    @classmethod
    def of(cls, plain: StepModel, drafting: Drafting) -> SpeculativeStep:
        """Return the step of ``plain`` with drafting."""
        values = {field.name: getattr(plain, field.name) for field in fields(StepModel)}
        steps = drafting.draft_tokens * drafting.draft_cost_ratio
        return cls(**values, verified_tokens=drafting.draft_tokens + 1, drafting_steps=steps)

    def scaled(self, ratio: float) -> SpeculativeStep:
        """Return this model with every time multiplied by ``ratio``."""
        values = {field.name: getattr(StepModel.scaled(self, ratio), field.name) for field in fields(StepModel)}
        return SpeculativeStep(**values, verified_tokens=self.verified_tokens, drafting_steps=self.drafting_steps)

    def mean_base_seconds(self, batch: float, prompt_tokens: float, chunk_tokens: float) -> float:
        """Return the mean of what steps take beside what tokens add, drafting included."""
        verify = StepModel.mean_base_seconds(self, batch * self.verified_tokens, prompt_tokens, chunk_tokens)
        return verify + self.drafting_steps * self.base_seconds(batch)

    def mean_base_seconds_of(
        self, batches: NDArray[np.float64], prompt_tokens: NDArray[np.float64], chunk_tokens: float
    ) -> NDArray[np.float64]:
        """Return ``mean_base_seconds`` of many batches at once, the same shape."""
        verify = StepModel.mean_base_seconds_of(self, batches * self.verified_tokens, prompt_tokens, chunk_tokens)
        return verify + self.drafting_steps * self._base_seconds_of(batches)

    def sequence_seconds(self, context_tokens: float) -> float:
        """Return what one sequence adds to a step: its KV cache once, what it verifies, and its drafts."""
        plain = StepModel.sequence_seconds(self, context_tokens)
        checked = (self.verified_tokens - 1) * self.prompt_token_seconds(context_tokens)
        return plain * (1.0 + self.drafting_steps) + checked
