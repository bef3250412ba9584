"""One scheduler of an engine, request by request: continuous batching with chunked prefill and a paged KV cache.

Follows vLLM's V1 scheduler (vllm/v1/core/sched/scheduler.py, v0.19): every step, running sequences get one token each,
then the prompt left over from the last step and then waiting prompts share what is left of the token budget, first come
first served; a prompt is admitted when the blocks of the whole prompt are free; when a running sequence finds no block,
the newest one is preempted, put first in the queue and computed anew. A step takes ``StepModel``'s time.

While nothing joins or leaves, the time of s decode steps is a quadratic in s, so such runs cost one evaluation.
"""

from __future__ import annotations

import math
from collections import deque
from heapq import heappop, heappush
from typing import NamedTuple

from sizing.replica.step_time import StepModel
from sizing.simulate.requests import LaneLimits, RequestTable

__all__ = ["BLOCK_TOKENS", "Lane", "LaneLoad"]

#: vLLM's default block of the paged KV cache. A power of two: the run below counts blocks by bits.
BLOCK_TOKENS = 16
_SHIFT = BLOCK_TOKENS.bit_length() - 1
_MASK = BLOCK_TOKENS - 1


class LaneLoad(NamedTuple):
    """What a lane holds: sequences admitted and waiting, share of its KV blocks in use, tokens in KV of decoding
    sequences, prompt tokens still to compute."""

    running: int
    waiting: int
    kv_used_ratio: float
    context_tokens: int
    queued_prompt_tokens: int


class Lane:
    """One batch of one replica; ``clock_seconds`` is the end of its last step.

    ``running_seconds`` is the time integral of admitted sequences, ``batch_seconds`` that of decoding ones,
    ``least_free_blocks`` the fewest free blocks there were.
    """

    def __init__(self, step: StepModel, limits: LaneLimits, table: RequestTable, clock_seconds: float) -> None:
        self.clock_seconds = clock_seconds
        self.steps = 0
        self.busy_seconds = 0.0
        self.running_seconds = 0.0
        self.batch_seconds = 0.0
        self.least_free_blocks = limits.kv_blocks
        self.preemptions = 0
        self._step = step
        self._limits = limits
        self._table = table
        self._size = max(len(table.arrival), 1)
        self._queue: deque[int] = deque()
        self._running: dict[int, None] = {}  # decoding, in order of admission
        self._partial = -1  # the prompt that did not fit the last step's token budget
        self._partial_done = 0
        self._free = limits.kv_blocks
        # Of decoding sequences, by decode step: tokens in KV = step number - offset; done at step number ``_ends``.
        self._offset: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._done_heap: list[int] = []  # step number · requests + request
        self._window_heap: list[int] = []  # the same, when a context outgrows the attention window
        self._phases = [0] * BLOCK_TOKENS  # sequences that need a block when step number ≡ index
        self._context = 0  # tokens in KV of decoding sequences
        self._windowed = 0  # the same, each at most the window
        self._growing = 0  # sequences whose context is still within the window
        self._just_finished = 0
        self._emitted: dict[int, int] = {}  # output tokens that preempted requests have had already
        self._base: dict[int, float] = {}

    def submit(self, request: int) -> None:
        """Put a request behind the lane's queue; requests come in the order of their arrival."""
        self._queue.append(request)

    def outstanding(self, now_seconds: float) -> int:
        """Return how many requests the lane has not finished at ``now_seconds``, at most one step before its clock."""
        held = len(self._queue) + len(self._running) + (self._partial >= 0)
        return held + (self._just_finished if self.clock_seconds > now_seconds else 0)

    @property
    def load(self) -> LaneLoad:
        """What the lane holds now."""
        table, emitted, queue = self._table, self._emitted, self._queue
        queued_tokens = sum(table.computed[request] + emitted.get(request, 0) for request in queue)
        if self._partial >= 0:
            done = max(self._partial_done - table.prompt[self._partial] + table.computed[self._partial], 0)
            queued_tokens += table.computed[self._partial] + emitted.get(self._partial, 0) - done
        used = 1.0 - self._free / self._limits.kv_blocks if self._limits.kv_blocks else 1.0
        running = len(self._running) + (self._partial >= 0)
        return LaneLoad(running, len(queue), used, self._context, queued_tokens)

    def abandon(self, now_seconds: float) -> None:
        """Lose every request that the lane holds: its replica has failed. The lane must not be used any more."""
        held = [*self._running, *self._queue, *((self._partial,) if self._partial >= 0 else ())]
        self._running.clear()
        self._queue.clear()
        self._partial = -1
        for request in held:
            self._table.failed[request] = now_seconds
        self._table.lost += len(held)

    def _decode_base(self, batch: int) -> float:
        """Return what a pure decode step of ``batch`` sequences takes before any context is read."""
        found = self._base.get(batch)
        if found is None:
            found = self._base[batch] = self._step.base_seconds(batch) + batch * self._step.decode_seconds
        return found

    def _forget(self, request: int) -> int:
        """Take a decoding sequence out of all sums; return the tokens it held in KV."""
        offset = self._offset.pop(request)
        tokens = self.steps - offset
        self._context -= tokens
        self._phases[offset & _MASK] -= 1
        window = self._step.window_tokens
        self._windowed -= min(tokens, window)
        self._growing -= tokens < window
        self._free += (tokens + _MASK) >> _SHIFT
        del self._ends[request]
        return tokens

    def _preempt(self) -> None:
        """Put the newest admitted sequence back to the head of the queue and free its blocks."""
        table = self._table
        if self._partial >= 0:
            request = self._partial
            self._partial = -1
            self._free += (table.prompt[request] + self._emitted.get(request, 0) + _MASK) >> _SHIFT
        else:
            request, _ = self._running.popitem()
            self._emitted[request] = table.output[request] - (self._ends[request] - self.steps)
            self._forget(request)
        table.preemptions[request] += 1
        self.preemptions += 1
        self._queue.appendleft(request)

    def _join(self, request: int) -> None:
        """Let a computed prompt emit its first (or next) token and decode on, or end, at the clock."""
        table = self._table
        emitted = self._emitted.pop(request, 0)
        tokens = table.prompt[request] + emitted
        if emitted == 0:
            table.first[request] = self.clock_seconds
            table.begun.append(request)
        left = table.output[request] - emitted - 1
        if left == 0:
            table.finish[request] = self.clock_seconds
            table.ended.append(request)
            self._just_finished += 1
            self._free += (tokens + _MASK) >> _SHIFT
            return
        now = self.steps
        offset = now - tokens
        self._running[request] = None
        self._offset[request] = offset
        self._ends[request] = now + left
        heappush(self._done_heap, (now + left) * self._size + request)
        self._phases[offset & _MASK] += 1
        self._context += tokens
        window = self._step.window_tokens
        self._windowed += min(tokens, window)
        if tokens < window:
            self._growing += 1
            heappush(self._window_heap, (offset + window) * self._size + request)

    def _leave(self) -> None:
        """Account for windows outgrown and sequences finished at this step number."""
        size, now = self._size, self.steps
        while self._window_heap and self._window_heap[0] < (now + 1) * size:
            crossing, request = divmod(heappop(self._window_heap), size)
            if self._offset.get(request) == crossing - self._step.window_tokens:
                self._growing -= 1
        heap, ends = self._done_heap, self._ends
        while heap and heap[0] < (now + 1) * size:
            end, request = divmod(heappop(heap), size)
            if ends.get(request) == end:  # else it was preempted meanwhile
                del self._running[request]
                self._forget(request)
                self._table.finish[request] = self.clock_seconds
                self._table.ended.append(request)
                self._just_finished += 1

    def _admit(self) -> tuple[list[int], int, float]:
        """Fill the step's token budget with prompts.

        Returns the prompts completed in this step, the prompt tokens and what they add in seconds.
        """
        table, step, limits = self._table, self._step, self._limits
        running = len(self._running)
        budget = limits.max_batched_tokens - running
        spare = self._free - self._phases[self.steps & _MASK]
        completed: list[int] = []
        tokens, seconds = 0, 0.0
        request, done = self._partial, self._partial_done
        while True:
            if request < 0:
                if not self._queue or budget <= 0 or running + len(completed) >= limits.max_num_seqs:
                    break
                request = self._queue[0]
                blocks = (table.prompt[request] + self._emitted.get(request, 0) + _MASK) >> _SHIFT
                if table.arrival[request] > self.clock_seconds or blocks > spare:
                    break
                self._queue.popleft()
                spare -= blocks
                self._free -= blocks
                done = table.prompt[request] - table.computed[request]
                if table.admitted[request] != table.admitted[request]:  # NaN: admitted for the first time
                    table.admitted[request] = self.clock_seconds
            left = table.prompt[request] + self._emitted.get(request, 0) - done
            chunk = min(left, budget)
            if chunk <= 0:
                self._partial, self._partial_done = request, done
                break
            seconds += chunk * step.prompt_token_seconds(done + chunk / 2)
            tokens += chunk
            budget -= chunk
            if chunk < left:
                self._partial, self._partial_done = request, done + chunk
                break
            completed.append(request)
            self._partial = request = -1
        return completed, tokens, seconds

    def run_until(self, limit_seconds: float) -> None:
        """Run every step that starts before ``limit_seconds``; an idle lane stays where it is."""
        table, step, limits = self._table, self._step, self._limits
        arrival, phases, queue, running = table.arrival, self._phases, self._queue, self._running
        kv, kv_window, size = step.kv_seconds, step.kv_window_seconds, self._size
        while self.clock_seconds < limit_seconds:
            batch = len(running)
            if not batch and self._partial < 0:
                if not queue:
                    return
                head = arrival[queue[0]]
                if head > self.clock_seconds:
                    if head >= limit_seconds:
                        return
                    self.clock_seconds = head
            preempted = False
            while self._free < batch and self._free < phases[self.steps & _MASK]:
                self._preempt()
                batch, preempted = len(running), True
            completed: list[int] = []
            tokens = 0
            waiting = bool(queue) and batch < limits.max_num_seqs
            if not preempted and (self._partial >= 0 or (waiting and arrival[queue[0]] <= self.clock_seconds)):
                completed, tokens, prompt_seconds = self._admit()
            first = (self._decode_base(batch) if batch else 0.0) + kv * self._context + kv_window * self._windowed
            if tokens:
                # What the prompts' tokens touch beside those of the decoding sequences is in base_seconds.
                seconds = first + prompt_seconds + step.base_seconds(batch + tokens)
                seconds -= step.base_seconds(batch) if batch else 0.0
                count, blocks = 1, phases[self.steps & _MASK]
            else:
                growth = kv * batch + kv_window * self._growing
                ends = self._next_end()
                count = ends - self.steps
                target = limit_seconds
                if waiting and not preempted:
                    head = arrival[queue[0]]
                    if self.clock_seconds < head < target:
                        target = head
                if preempted:
                    count = 1
                elif count > 1 and target < math.inf:
                    count = min(count, _steps_to(target - self.clock_seconds, first, growth))
                if growth and self._window_heap:
                    count = max(min(count, self._window_heap[0] // size - self.steps), 1)
                count, blocks = self._blocks(count, batch)
                seconds = count * first + growth * count * (count - 1) / 2
            inside = batch + len(completed) + (self._partial >= 0)
            self.clock_seconds += seconds
            self.busy_seconds += seconds
            self.running_seconds += inside * seconds
            self.batch_seconds += batch * seconds
            self.steps += count
            self._context += batch * count
            self._windowed += self._growing * count
            self._free -= blocks
            self.least_free_blocks = min(self.least_free_blocks, self._free)
            self._just_finished = 0
            if batch:
                self._leave()
            for request in completed:
                self._join(request)

    def _next_end(self) -> int:
        """Return the step number at which the next decoding sequence is done."""
        heap, size = self._done_heap, self._size
        while True:
            end, request = divmod(heap[0], size)
            if self._ends.get(request) == end:
                return end
            heappop(heap)

    def _blocks(self, count: int, batch: int) -> tuple[int, int]:
        """Return how many of ``count`` decode steps the free blocks allow, at least one, and the blocks they take."""
        phases, now, free = self._phases, self.steps, self._free
        rounds, rest = divmod(count, BLOCK_TOKENS)
        taken = rounds * batch
        for index in range(now, now + rest):
            taken += phases[index & _MASK]
        if taken <= free:
            return count, taken
        # As many whole rounds as fit, then step by step; the caller has made room for the first step.
        rounds = free // batch
        allowed, taken = rounds * BLOCK_TOKENS, rounds * batch
        while allowed < count and taken + phases[(now + allowed) & _MASK] <= free:
            taken += phases[(now + allowed) & _MASK]
            allowed += 1
        return allowed, taken


def _steps_to(seconds: float, first: float, growth: float) -> int:
    """Return the fewest steps that take at least ``seconds`` when step j takes ``first`` + j · ``growth``."""
    if seconds <= first:
        return 1
    if growth <= 1e-9 * first:
        return math.ceil(seconds / first)
    half = first - growth / 2
    return max(math.ceil((math.sqrt(half * half + 2 * growth * seconds) - half) / growth - 1e-9), 1)
