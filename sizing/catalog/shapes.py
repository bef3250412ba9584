"""What one layer's mixer holds: the result of reading it, whatever its kind."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MixerShape"]


@dataclass(frozen=True, slots=True)
class MixerShape:
    """One layer: parameters that tensor parallelism splits, KV projections, and what every rank holds whole.

    ``kv_elements`` per token; ``index_bytes`` per token of a sparse-attention indexer, ``index_width`` its heads · dim
    as its kernels have them, ``selected_tokens`` what attention reads of a context (0: all) and ``selected_width`` its
    width there, on the latent cache; ``kv_heads`` None: a latent cache, whole on every rank; ``width`` is heads ·
    (query/key + value dim) / 2; ``wide_state`` and ``narrow_state`` are elements per sequence in 32 and 16 bits;
    ``absorbed`` are parameters that engines hold a second time in bf16 (MLA's up-projections); ``rows`` are output
    channels of the split matrices.
    """

    split: int = 0
    kv_projections: int = 0
    replicated: int = 0
    indexer: int = 0
    absorbed: int = 0
    rows: int = 0
    kv_elements: int = 0
    index_bytes: int = 0
    index_width: int = 0
    selected_tokens: int = 0
    selected_width: float = 0.0
    kv_heads: int | None = None
    width: float = 0.0
    wide_state: int = 0
    narrow_state: int = 0

    @property
    def parameters(self) -> int:
        """All parameters of the layer."""
        return self.split + self.kv_projections + self.replicated + self.indexer
