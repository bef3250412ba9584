"""How an engine lays the KV cache out in blocks, and how many sequences of a length it holds.

After vLLM's hybrid KV cache manager (vllm-project/vllm, vllm/v1/core/kv_cache_utils.py: get_kv_cache_groups,
get_max_concurrency_for_kv_cache_config; vllm/v1/kv_cache_interface.py: max_memory_usage_bytes; read 2026-11). Layers of
one kind form groups of equal size; every group takes blocks of the same number of bytes from one pool. So a recurrent
state costs a whole block, and a model with windows wastes what its groups are padded by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sizing.catalog.layers import Mixer
from sizing.catalog.models import CacheLayers

__all__ = ["BlockLayout", "Group", "block_layout"]

#: Half of the last block stays empty on average; in blocks of at most so many tokens that is not counted.
_SMALL_BLOCK = 64
#: Groups are as large as the largest kind, not the smallest, when it has less than this many times as many layers.
_NEARLY_EQUAL = 1.25


@dataclass(frozen=True, slots=True)
class Group:
    """Groups of layers that keep the same: ``count`` of them; ``block_tokens`` per block; window 0: all tokens.

    ``state`` marks recurrent layers, which take one block per sequence.
    """

    count: int
    block_tokens: int
    window_tokens: int = 0
    state: bool = False

    def blocks(self, tokens: float) -> float:
        """Return the blocks that a sequence of ``tokens`` tokens has in use, on average over the fill of the last."""
        if self.state:
            return float(self.count)
        kept = min(tokens, self.window_tokens) if self.window_tokens else tokens
        unfilled = 0.5 if self.block_tokens > _SMALL_BLOCK else 0.0
        return self.count * (kept / self.block_tokens + unfilled)

    def reserved_blocks(self, tokens: int, batched_tokens: int) -> int:
        """Return the blocks that the engine counts for the longest sequence: a window and what one step adds to it."""
        if self.state:
            return self.count
        if not self.window_tokens:
            return self.count * math.ceil(tokens / self.block_tokens)
        kept = min(self.window_tokens - 1 + batched_tokens, tokens)
        return self.count * (math.ceil(kept / self.block_tokens) + 1)


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """Blocks of ``block_bytes`` on each GPU, and the groups that draw on them; sizes are of one pipeline stage."""

    block_bytes: float
    groups: tuple[Group, ...]

    @property
    def group_count(self) -> int:
        """Groups that take blocks."""
        return sum(group.count for group in self.groups)

    @property
    def block_tokens(self) -> int:
        """Tokens of the smallest block."""
        return min(group.block_tokens for group in self.groups)

    def sequence_bytes(self, tokens: float) -> float:
        """Return the bytes per GPU that a running sequence of ``tokens`` tokens holds on average."""
        return self.block_bytes * sum(group.blocks(tokens) for group in self.groups)

    def blocks(self, budget_bytes: float) -> int:
        """Return the blocks that a budget holds."""
        return max(math.floor(budget_bytes / self.block_bytes), 0)

    def printed_tokens(self, budget_bytes: float, length: int | None = None, batched_tokens: int = 0) -> float:
        """Return the "GPU KV cache size" that vLLM prints: an equal share of the blocks for every group, in tokens.

        With a ``length`` it is that of releases that print maximum concurrency times length.
        """
        if length is None:
            return float(self.blocks(budget_bytes) // self.group_count * self.block_tokens)
        return float(math.floor(self.printed_concurrency(budget_bytes, length, batched_tokens) * length))

    def budget_of(self, printed_tokens: float, length: int | None = None, batched_tokens: int = 0) -> float:
        """Return the bytes behind a printed "GPU KV cache size"; the other way of ``printed_tokens``."""
        if length is None:
            return printed_tokens / self.block_tokens * self.group_count * self.block_bytes
        return printed_tokens / length * self._reserved(length, batched_tokens) * self.block_bytes

    def printed_concurrency(self, budget_bytes: float, tokens: int, batched_tokens: int) -> float:
        """Return the "Maximum concurrency" that vLLM prints for sequences of ``tokens`` tokens."""
        return self.blocks(budget_bytes) / self._reserved(tokens, batched_tokens)

    def _reserved(self, tokens: int, batched_tokens: int) -> int:
        return sum(group.reserved_blocks(tokens, batched_tokens) for group in self.groups)


def block_layout(
    caches: Sequence[CacheLayers],
    *,
    tensor_parallel: int,
    pipeline_parallel: int,
    kv_bytes: float,
    block_tokens: int,
    windows: bool = True,
    chunks: bool = False,
    longest_tokens: int | None = None,
) -> BlockLayout:
    """Return the layout of a model's caches on one GPU.

    ``kv_bytes`` is the size of a KV element, ``block_tokens`` the engine's block. Without ``windows`` (``chunks``) the
    engine keeps all tokens in windowed (chunked) layers. ``longest_tokens`` is the longest sequence that the engine is
    started for (None: not known): the block of a recurrent state stands for so many tokens.
    """
    kinds: dict[tuple[int, float, float], int] = {}
    for cache in caches:
        window = cache.window_tokens
        if (cache.mixer is Mixer.WINDOW and not windows) or (cache.mixer is Mixer.CHUNK and not chunks):
            window = 0
        share = 1.0 if cache.heads is None else 1.0 / min(tensor_parallel, cache.heads)
        token = cache.kv_elements * share * kv_bytes + cache.index_bytes
        state = (4.0 * cache.wide_state + 2.0 * cache.narrow_state) / tensor_parallel
        key = (window, token, state)
        kinds[key] = kinds.get(key, 0) + math.ceil(cache.layers / pipeline_parallel)
    whole = {key: count for key, count in kinds.items() if key[0] == 0 and key[2] == 0}
    if len(whole) == len(kinds):
        # One kind of cache, whatever its sizes: all layers form one group.
        token = sum(key[1] * count for key, count in whole.items())
        return BlockLayout(max(token, 1e-9) * block_tokens, (Group(1, block_tokens),))
    return _grouped(kinds, block_tokens, longest_tokens)


def _grouped(kinds: dict[tuple[int, float, float], int], block_tokens: int, longest_tokens: int | None) -> BlockLayout:
    widest = max((key[1] for key in kinds), default=0.0)
    state = max((key[2] for key in kinds), default=0.0)
    if widest == 0:
        # Recurrent layers alone: a state is a block, and there is no limit to its tokens.
        return BlockLayout(state * sum(kinds.values()), (Group(1, longest_tokens or block_tokens, state=True),))
    block = block_tokens
    if state:
        # The attention block grows until it holds a state, which is then padded to it.
        block = max(block, math.ceil(state / widest / block_tokens) * block_tokens)
    page = widest * block
    smallest, largest = min(kinds.values()), max(kinds.values())
    size = largest if largest < _NEARLY_EQUAL * smallest else smallest
    groups = []
    for (window, token, recurrent), count in kinds.items():
        each = math.ceil(count / size)
        if recurrent:
            groups.append(Group(each, min(block, longest_tokens or block), state=True))
        else:
            # Smaller pages take more tokens where they divide the larger one, else they are padded.
            ratio = widest / token
            groups.append(Group(each, block * int(ratio) if ratio == int(ratio) else block, window))
    return BlockLayout(page * size, tuple(groups))
