"""One replica in steady state: batch, throughput and latency as a mean field, by Little's law.

With B sequences decoding, prompts of n computed tokens and outputs of m tokens, a step computes B·n/m prompt tokens, so

    T(B) = base(B) + B · sequence(context) + B · n/m · prompt_token        (the step; also the time per output token)
    rate = B / (m · T(B))                                                  (Little: B = rate · m · T)
    TTFT = o + κ·T + h·n / (1 - ρ/2) + wait,   ρ = 1 - base/T

which is the fixed point T = base / (1 - βp·λ·n - λ·m·(βd + γ·context)) solved for B instead of λ: no iteration. The
iteration-time model is that of llm-inferno/queue-analysis; o and κ were measured (``LatencyCoefficients``). Length
distributions enter exactly: context = (E[n·m] + E[m²]/2) / E[m], the mean context over all decode steps.
"""

from __future__ import annotations

import math

from sizing.errors import DoesNotFit, InvalidInput
from sizing.learned import features
from sizing.load import Latency, LatencyCoefficients, LoadPoint, check_workload
from sizing.memory import Memory, Resolved, require_fit
from sizing.model import Constraint, Workload
from sizing.queueing import StateDependentQueue, Wait, general_wait
from sizing.roots import narrow
from sizing.steptime import StepCoefficients, StepModel, step_model
from sizing.tails import combine_deviations, decode_spread, length_quantile, normal_quantile, squared_variation

__all__ = ["KV_BLOCK_TOKENS", "ReplicaModel"]

#: vLLM's default block of the paged KV cache; half of one is lost per sequence on average.
KV_BLOCK_TOKENS = 16
#: Largest share of the saturation throughput that is planned for (stability margin 0.1 of llm-inferno/queue-analysis).
MAX_UTILISATION = 0.9
#: Units of the terms of a closed loop's time to first token; ``sizing.learned`` scales them (TTFT_TERMS).
_CLOSED_FIXED_SECONDS, _CLOSED_WAIT_SHARE, _CLOSED_CLIENT_SECONDS, _CLOSED_STEP_SHARE = 0.03, 0.25, 1e-3, 0.05
_MAX_SERVERS = 2048


class ReplicaModel:
    """One replica of a deployment under a workload; immutable, cheap to build.

    ``dispersion`` is the index of dispersion of the arrivals (1: Poisson, 0: evenly spaced).

    Raises:
        DoesNotFit: the weights or a single request do not fit.
        InvalidInput: the workload cannot be.
    """

    def __init__(
        self,
        resolved: Resolved,
        workload: Workload,
        *,
        dispersion: float = 1.0,
        coefficients: StepCoefficients | None = None,
        latency: LatencyCoefficients | None = None,
    ) -> None:
        check_workload(workload)
        if not 0 <= dispersion <= 1e6:
            raise InvalidInput(f"dispersion must be in [0, 1e6], not {dispersion!r}")
        self.resolved = resolved
        self.workload = workload
        self.dispersion = dispersion
        self.memory: Memory = require_fit(resolved)
        coefficients = coefficients or StepCoefficients()
        self.step: StepModel = step_model(resolved, coefficients)
        self._closed_factors = coefficients.learned.closed_loop_ttft.factors(features(resolved))
        self._latency = latency or LatencyCoefficients()
        self.lanes = resolved.lanes

        self._input = max(workload.input_tokens, 1.0)
        self._output = max(workload.output_tokens, 1.0)
        self._computed = max(self._input * (1.0 - workload.cached_share), 1.0)
        self._input_scv = squared_variation(self._input, workload.input_tokens_squared)
        output_squared = max(workload.output_tokens_squared or 0.0, self._output**2)
        product = workload.input_output_product
        if product is None:
            product = self._input * self._output
        #: Mean context over all decode steps, tokens.
        self.context_tokens = (product + output_squared / 2.0) / self._output
        cached = self._input - self._computed
        # A prompt token attends to the cached prefix and, on average, half of the computed rest; long prompts
        # weigh more.
        self._prompt_seconds = self.step.prompt_token_seconds((cached + self._computed / 2.0) * (1.0 + self._input_scv))
        self.limits = self._batch_limits()
        #: What bounds the batch, and the largest batch of one lane.
        self.limit = min(self.limits, key=lambda constraint: self.limits[constraint])
        self.max_lane_batch = self.limits[self.limit]
        self._chunk = min(self._computed, float(resolved.deployment.max_batched_tokens))
        self._sequence_seconds = self.step.sequence_seconds(self.context_tokens)
        self._added_seconds = self._sequence_seconds + self._computed / self._output * self._prompt_seconds
        self._saturation = self._rate(self.max_lane_batch)
        self._place = self._place_queue()
        # Every percentile of one load asks for the same waits.
        self._last_waits: tuple[float, tuple[Wait, Wait]] | None = None

    def _batch_limits(self) -> dict[Constraint, float]:
        deployment = self.resolved.deployment
        resident = self.context_tokens + KV_BLOCK_TOKENS / 2
        by_memory = self.memory.max_sequences(resident) / self.lanes
        if self.memory.max_sequences(self._input + self._output) / self.lanes < 1.0:
            raise DoesNotFit(
                f"the KV cache of {self.resolved.model.name} on {deployment.gpus} × {self.resolved.gpu.name} holds "
                f"{self.memory.kv_tokens:.0f} tokens, less than one request of "
                f"{self._input:.0f} + {self._output:.0f} tokens needs per batch"
            )
        # A step holds one token per sequence and B·n/m prompt tokens within its token budget.
        by_budget = deployment.max_batched_tokens / (1.0 + self._computed / self._output)
        return {
            Constraint.KV_MEMORY: max(by_memory, 1.0),
            # Pipelines share one scheduler, data-parallel ranks have one each.
            Constraint.MAX_NUM_SEQS: max(deployment.max_num_seqs / deployment.pipeline_parallel, 1.0),
            Constraint.PREFILL_COMPUTE: max(by_budget, 1e-3),
        }

    @property
    def max_kv_batch(self) -> float:
        """Sequences of mean context that the KV cache of the replica holds."""
        return self.limits[Constraint.KV_MEMORY] * self.lanes

    def _place_queue(self) -> StateDependentQueue:
        """Return the queue for a place in the batch of one lane: a place is a server, slower the fuller the batch."""
        import numpy as np

        servers = min(max(int(self.max_lane_batch), 1), _MAX_SERVERS)
        batches = np.linspace(self.max_lane_batch / servers, self.max_lane_batch, servers)
        running = np.maximum(batches, min(1.0, self.max_lane_batch))
        base = self.step.mean_base_seconds_of(running, running * (self._computed / self._output), self._chunk)
        return StateDependentQueue(batches / (self._output * (base + running * self._added_seconds)))

    def _step_parts(self, lane_batch: float) -> tuple[float, float]:
        """Return the seconds of a step that any batch pays, and those that its sequences and prompts add."""
        batch = max(lane_batch, min(1.0, self.max_lane_batch))
        prompts = batch * self._computed / self._output
        return self.step.mean_base_seconds(batch, prompts, self._chunk), batch * self._added_seconds

    def step_seconds(self, lane_batch: float) -> float:
        """Return the step time with ``lane_batch`` sequences in a lane; a lone request sees a batch of one."""
        base, added = self._step_parts(lane_batch)
        return base + added

    def _rate(self, lane_batch: float) -> float:
        """Requests per second of one lane at ``lane_batch``."""
        return lane_batch / (self._output * self.step_seconds(lane_batch))

    @property
    def saturation_requests_per_second(self) -> float:
        """Requests per second of the replica with every batch full."""
        return self._saturation * self.lanes

    def requests_per_second(self, lane_batch: float) -> float:
        """Return the requests per second of the replica with ``lane_batch`` sequences decoding in each lane."""
        return self._rate(lane_batch) * self.lanes

    def lane_batch(self, requests_per_second: float) -> float | None:
        """Return the batch of one lane at a rate of the replica; None when the rate cannot be sustained."""
        rate = requests_per_second / self.lanes
        if not 0 <= rate < self._saturation:
            return None
        if rate == 0:
            return self.max_lane_batch * 2.0**-60  # above 0: logarithms of it are taken

        def spare(batch: float) -> float:
            # batch - rate · m · T(batch): of the sign of rate(batch) - rate, and nearly a line.
            return batch - rate * self._output * self.step_seconds(batch)

        most = self.max_lane_batch
        _, high = narrow(spare, 0.0, most, spare(0.0), spare(most), 1e-13)
        return high

    def waits(self, lane_batch: float) -> tuple[Wait, Wait]:
        """Return the wait for prefill and the wait for a place in the batch, of one lane."""
        if self._last_waits is not None and self._last_waits[0] == lane_batch:
            return self._last_waits[1]
        rate = self._rate(lane_batch)
        batch = min(lane_batch, self.max_lane_batch)
        chunk = max(self.resolved.deployment.max_batched_tokens - batch, 1.0)
        full_step = (
            self.step.base_seconds(batch + chunk) + batch * self._sequence_seconds + chunk * self._prompt_seconds
        )
        prompts_per_second = chunk / full_step / self._computed
        prefill = general_wait(
            min(rate / prompts_per_second, 1.0), prompts_per_second, rate, self.dispersion, self._input_scv
        )
        probability = self._place.wait_probability(rate)
        # The number in service varies like a memoryless server's whatever the lengths: cs² = 1.
        place = general_wait(probability, self._saturation, rate, self.dispersion, 1.0)
        self._last_waits = lane_batch, (prefill, place)
        return prefill, place

    def service_seconds(self, lane_batch: float, computed_tokens: float) -> float:
        """Return the time from admission to first token of a prompt with ``computed_tokens`` tokens to compute."""
        base, added = self._step_parts(lane_batch)
        return self._service(base + added, added, computed_tokens)

    def _service(self, step: float, added: float, computed_tokens: float) -> float:
        share = added / step
        chunks = max(computed_tokens / self.resolved.deployment.max_batched_tokens - 1.0, 0.0)
        return (
            self._latency.overhead_seconds
            + self._latency.step_ratio * step
            + computed_tokens * self._prompt_seconds / (1.0 - share / 2.0)
            + chunks * self.step.base_seconds(float(self.resolved.deployment.max_batched_tokens))
        )

    def mean_latency(self, lane_batch: float) -> Latency:
        """Return mean TTFT and time per output token at a batch."""
        prefill, place = self.waits(lane_batch)
        service = self.service_seconds(lane_batch, self._computed)
        return Latency(service + prefill.mean_seconds + place.mean_seconds, self.step_seconds(lane_batch))

    def decode_seconds(self, lane_batch: float) -> float:
        """Return the mean time that a request spends decoding at a batch."""
        return self._output * self.step_seconds(lane_batch)

    def latency(
        self, lane_batch: float, level: float, slo_level: float | None = None, *, waiting: bool = True
    ) -> Latency:
        """Return TTFT and time per output token at percentile ``level``.

        TTFT: mean plus the combined deviations of prompt length, wait for prefill and wait for a place. Time per output
        token: the step at the batch's own ``level`` quantile (Poisson-like: variance = dispersion · batch), because a
        request's life is about as long as the batch's memory, and never below the measured ``decode_spread``.
        ``workload.input_quantile`` is used at ``slo_level``. Without ``waiting``, TTFT runs from admission.
        """
        prefill, place = self.waits(lane_batch) if waiting else (Wait(0.0, 0.0), Wait(0.0, 0.0))
        base, added = self._step_parts(lane_batch)
        step = base + added
        service = self._service(step, added, self._computed)
        mean = service + prefill.mean_seconds + place.mean_seconds
        given = self.workload.input_quantile if level == slo_level else None
        if given is None:
            given = length_quantile(self._input, self.workload.input_tokens_squared, level)
        longer = max(given * self._computed / self._input, 1.0)
        length = self._service(step, added, longer) - service
        deviation = (
            math.inf
            if math.isinf(mean)
            else combine_deviations(
                length,
                # A rare wait has a mean but no quantile: its mean stays in, or more load would look faster.
                max(prefill.quantile_seconds(level) - prefill.mean_seconds, 0.0),
                max(place.quantile_seconds(level) - place.mean_seconds, 0.0),
                # A request arrives anywhere within the step that is running.
                (level - 0.5) * step if waiting else 0.0,
                # What clients, HTTP and tokenisation take is as irregular as a short queue: exponential.
                self._latency.overhead_seconds * (-math.log1p(-level) - 1.0),
            )
        )
        spread = normal_quantile(level) * math.sqrt(self.dispersion * max(lane_batch, 0.0))
        batch = min(max(lane_batch + spread, 0.0), self.max_lane_batch)
        ttft = max(mean + deviation, self._service(step, added, 1.0)) if mean < math.inf else math.inf
        utilisation = lane_batch / (self._output * step) / self._saturation
        spread_step = step * decode_spread(utilisation, level)
        return Latency(ttft, max(self.step_seconds(batch), spread_step) if level >= 0.5 else self.step_seconds(batch))

    def point(self, lane_batch: float) -> LoadPoint:
        """Return everything about the replica with ``lane_batch`` sequences decoding in each lane."""
        rate = self.requests_per_second(lane_batch)
        return LoadPoint(
            batch=lane_batch * self.lanes,
            requests_per_second=rate,
            utilisation=rate / self.saturation_requests_per_second,
            kv_tokens=lane_batch * self.lanes * self.context_tokens,
            prefill_tokens_per_second=rate * self._computed,
            decode_tokens_per_second=rate * self._output,
            mean=self.mean_latency(lane_batch),
            p50=self.latency(lane_batch, 0.5),
            p95=self.latency(lane_batch, 0.95),
        )

    def closed_loop_ttft_terms(self, lane_batch: float, concurrency: float) -> tuple[float, ...]:
        """Return the terms of ``closed_loop_ttft_seconds`` in the order of ``sizing.learned.TTFT_TERMS``, unscaled."""
        base, added = self._step_parts(lane_batch)
        clients = concurrency / self.lanes
        own = self._computed * self._prompt_seconds
        return (
            _CLOSED_FIXED_SECONDS,
            base + added,
            own,
            _CLOSED_WAIT_SHARE * clients * own,
            _CLOSED_CLIENT_SECONDS * concurrency,
            base,
            _CLOSED_STEP_SHARE * clients * (base + added),
        )

    def closed_loop_ttft_seconds(self, lane_batch: float, concurrency: float) -> float:
        """Return the TTFT when ``concurrency`` clients send back to back, with ``lane_batch`` of each lane decoding.

        Clients that finish together send together, so a prompt waits behind others': a sum of terms (a constant, the
        step, the own prompt, a share of everybody's, a cost per client, reading the weights, steps of the batch), each
        scaled as measured for this kind of deployment (``sizing.learned``).
        """
        terms = self.closed_loop_ttft_terms(lane_batch, concurrency)
        return sum(factor * term for factor, term in zip(self._closed_factors, terms, strict=True))

    def closed_loop_lane_batch(self, concurrency: float, ttft_ratio: float = 1.0) -> float:
        """Return the decoding batch of one lane when ``concurrency`` clients of the replica send back to back.

        Clients are either waiting for their first token or decoding: concurrency = batch · (1 + TTFT / (m·T)); more
        clients than fit in the batch wait. ``ttft_ratio`` corrects TTFT by what was measured.
        """
        if not concurrency > 0:
            raise InvalidInput(f"concurrency must be positive, not {concurrency!r}")
        clients = concurrency / self.lanes
        low, high = 0.0, min(clients, self.max_lane_batch)
        for _ in range(60):
            middle = (low + high) / 2
            ttft = ttft_ratio * self.closed_loop_ttft_seconds(middle, concurrency)
            if middle * (1.0 + ttft / self.decode_seconds(middle)) < clients:
                low = middle
            else:
                high = middle
        return high

    def curve(self, points: int = 12) -> tuple[LoadPoint, ...]:
        """Return the latency–throughput curve from nearly idle to 98 % of saturation, evenly spaced in rate."""
        rates = [self.saturation_requests_per_second * 0.98 * (i + 1) / points for i in range(points)]
        batches = [self.lane_batch(rate) for rate in rates]
        return tuple(self.point(batch) for batch in batches if batch is not None)
