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
from dataclasses import replace

from sizing.calibration.global_fit import features
from sizing.errors import DoesNotFit, InvalidInput
from sizing.replica.closed_loop import device_factors, ttft_terms, wave_ratio
from sizing.replica.distributions import Percentile, combine_deviations, decode_spread, length_quantile, percentile
from sizing.replica.load_point import Latency, LatencyCoefficients, LoadPoint, check_workload, mean_request
from sizing.replica.memory import Memory, Resolved, require_fit
from sizing.replica.queueing import StateDependentQueue, Wait, counted, general_wait, wait_is_negligible
from sizing.replica.root_finding import narrow
from sizing.replica.step_time import StepCoefficients, StepModel, step_model
from sizing.types import Constraint, Workload

__all__ = ["KV_BLOCK_TOKENS", "ReplicaModel"]

#: vLLM's default block of the paged KV cache; half of one is lost per sequence on average.
KV_BLOCK_TOKENS = 16
#: Largest share of the saturation throughput that is planned for (stability margin 0.1 of llm-inferno/queue-analysis).
MAX_UTILISATION = 0.9
_MAX_SERVERS = 2048
_LATENCY = LatencyCoefficients()


class ReplicaModel:
    """One replica of a deployment under a workload; cheap to build, unchanging but for what it remembers.

    ``dispersion`` is the index of dispersion of the arrivals (1: Poisson, 0: evenly spaced). ``step`` is the step model
    of the deployment and the coefficients, ``memory`` its memory as ``require_fit`` has it, where there is one already.

    Raises:
        DoesNotFit: the weights or a single request do not fit.
        InvalidInput: the workload or the dispersion is out of range.
    """

    def __init__(
        self,
        resolved: Resolved,
        workload: Workload,
        *,
        dispersion: float = 1.0,
        coefficients: StepCoefficients | None = None,
        latency: LatencyCoefficients | None = None,
        step: StepModel | None = None,
        memory: Memory | None = None,
    ) -> None:
        check_workload(workload)
        if not 0 <= dispersion <= 1e6:
            raise InvalidInput(f"dispersion must be in [0, 1e6], not {dispersion!r}")
        self.resolved = resolved
        self.workload = workload
        self.dispersion = dispersion
        self.memory: Memory = memory or require_fit(resolved)
        coefficients = coefficients or StepCoefficients()
        self._coefficients = coefficients
        self.step: StepModel = step or step_model(resolved, coefficients)
        self._latency = latency or _LATENCY
        overheads = resolved.gpu.overheads
        if overheads is not None and latency is None:
            self._latency = replace(self._latency, overhead_seconds=overheads.request_seconds)
        self.lanes = resolved.lanes
        self._budget = float(resolved.deployment.max_batched_tokens)

        mean = mean_request(workload)
        self._input, self._output, self._computed = mean.input, mean.output, mean.computed
        self._input_scv = mean.input_scv
        #: Mean context over all decode steps, tokens.
        self.context_tokens = mean.context
        self._prompt_seconds = self.step.prompt_token_seconds(mean.prompt_context)
        self.limits = self._batch_limits()
        #: What bounds the batch, and the largest batch of one lane.
        self.limit = min(self.limits, key=self.limits.__getitem__)
        self.max_lane_batch = self.limits[self.limit]
        self._least_batch = min(1.0, self.max_lane_batch)
        self._chunk = min(self._computed, self._budget)
        self._sequence_seconds = self.step.sequence_seconds(self.context_tokens)
        self._added_seconds = self._sequence_seconds + self._computed / self._output * self._prompt_seconds
        self._last_parts: tuple[float, tuple[float, float]] | None = None
        self._saturation = self._rate(self.max_lane_batch)
        self._servers = min(max(int(self.max_lane_batch), 1), _MAX_SERVERS)
        #: Steps take so many times what the model that the queue was made for has; see ``scaled``.
        self._time_ratio = 1.0
        self._closed_factors: tuple[float, ...] | None = None
        self._levels: dict[tuple[float, bool], Percentile] = {}
        self._place: list[StateDependentQueue] = []  # made when a wait for a place is first possible
        # Every percentile of one load asks for the same waits, and several questions for the batch of one rate.
        self._last_waits: tuple[float, tuple[Wait, Wait]] | None = None
        self._last_batch: tuple[float, float] | None = None

    def scaled(self, ratio: float) -> ReplicaModel:
        """Return this replica with every step taking ``ratio`` times as long, as with all coefficients times that."""
        other = ReplicaModel.__new__(ReplicaModel)
        other.__dict__.update(self.__dict__)
        other.step = self.step.scaled(ratio)
        other._prompt_seconds *= ratio
        other._sequence_seconds *= ratio
        other._added_seconds *= ratio
        other._saturation /= ratio
        other._time_ratio *= ratio
        other._last_waits = other._last_batch = other._last_parts = None
        return other

    def deployed(self, resolved: Resolved) -> ReplicaModel:
        """Return the replica of another deployment under the same load, with the same correction of its steps.

        Raises:
            DoesNotFit: the weights or a single request do not fit.
        """
        other = ReplicaModel(
            resolved,
            self.workload,
            dispersion=self.dispersion,
            coefficients=self._coefficients,
            latency=self._latency,
        )
        return other if self._time_ratio == 1.0 else other.scaled(self._time_ratio)

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

    def _place_probability(self, lane_batch: float, rate: float) -> float:
        """Return the chance of waiting for a place in the batch of one lane: a place is a server, slower when full."""
        if wait_is_negligible(self._rate, rate, self._saturation, lane_batch, self.max_lane_batch, self._servers):
            return 0.0
        if not self._place:
            self._place.append(self._place_queue())
        return self._place[0].wait_probability(rate * self._time_ratio)

    def _place_queue(self) -> StateDependentQueue:
        """Return the queue for a place in the batch of one lane, with steps of the unscaled model."""
        import numpy as np

        servers = self._servers
        # ``np.linspace`` from the first place to the last, which takes longer than everything else here.
        first, last = self.max_lane_batch / servers, self.max_lane_batch
        batches = counted(servers) * ((last - first) / max(servers - 1, 1)) + first
        batches[-1] = last
        running = np.maximum(batches, min(1.0, self.max_lane_batch))
        base = self.step.mean_base_seconds_of(running, running * (self._computed / self._output), self._chunk)
        seconds = self._output * (base + running * self._added_seconds)
        return StateDependentQueue(batches / (seconds if self._time_ratio == 1.0 else seconds / self._time_ratio))

    def _step_parts(self, lane_batch: float) -> tuple[float, float]:
        """Return the seconds of a step that any batch pays, and those that its sequences and prompts add."""
        if self._last_parts is not None and self._last_parts[0] == lane_batch:
            return self._last_parts[1]
        batch = lane_batch if lane_batch > self._least_batch else self._least_batch
        prompts = batch * self._computed / self._output
        parts = self.step.mean_base_seconds(batch, prompts, self._chunk), batch * self._added_seconds
        self._last_parts = lane_batch, parts
        return parts

    def step_seconds(self, lane_batch: float) -> float:
        """Return the step time with ``lane_batch`` sequences in a lane; a lone request sees a batch of one."""
        base, added = self._step_parts(lane_batch)
        return base + added

    def _rate(self, lane_batch: float) -> float:
        """Requests per second of one lane at ``lane_batch``."""
        base, added = self._step_parts(lane_batch)
        return lane_batch / (self._output * (base + added))

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
        if self._last_batch is not None and self._last_batch[0] == rate:
            return self._last_batch[1]

        base_seconds, least, chunk = self.step.mean_base_seconds, self._least_batch, self._chunk
        computed, output, added, outputs = self._computed, self._output, self._added_seconds, rate * self._output

        def spare(batch: float) -> float:
            # batch - rate · m · T(batch): of the sign of rate(batch) - rate, and nearly a line.
            held = batch if batch > least else least
            return batch - outputs * (base_seconds(held, held * computed / output, chunk) + held * added)

        most = self.max_lane_batch
        _, high = narrow(spare, 0.0, most, spare(0.0), spare(most), 1e-13)
        self._last_batch = rate, high
        return high

    def waits(self, lane_batch: float) -> tuple[Wait, Wait]:
        """Return the wait for prefill and the wait for a place in the batch, of one lane."""
        if self._last_waits is not None and self._last_waits[0] == lane_batch:
            return self._last_waits[1]
        rate = self._rate(lane_batch)
        batch = min(lane_batch, self.max_lane_batch)
        chunk = max(self._budget - batch, 1.0)
        base = self.step.base_seconds(batch + chunk)
        full_step = base + batch * self._sequence_seconds + chunk * self._prompt_seconds
        prompts_per_second = chunk / full_step / self._computed
        prefill = general_wait(
            min(rate / prompts_per_second, 1.0), prompts_per_second, rate, self.dispersion, self._input_scv
        )
        # The number in service varies like a memoryless server's whatever the lengths: cs² = 1.
        place = general_wait(self._place_probability(lane_batch, rate), self._saturation, rate, self.dispersion, 1.0)
        self._last_waits = lane_batch, (prefill, place)
        return prefill, place

    def service_seconds(self, lane_batch: float, computed_tokens: float) -> float:
        """Return the time from admission to first token of a prompt with ``computed_tokens`` tokens to compute."""
        base, added = self._step_parts(lane_batch)
        return self._service(base + added, added, computed_tokens)

    def _service(self, step: float, added: float, computed_tokens: float) -> float:
        share = added / step
        seconds = (
            self._latency.overhead_seconds
            + self._latency.step_ratio * step
            + computed_tokens * self._prompt_seconds / (1.0 - share / 2.0)
        )
        if computed_tokens > self._budget:
            seconds += (computed_tokens / self._budget - 1.0) * self.step.base_seconds(self._budget)
        return seconds

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
        return Latency(*self.times(lane_batch, level, slo_level, waiting=waiting))

    def times(
        self, lane_batch: float, level: float, slo_level: float | None = None, *, waiting: bool = True
    ) -> tuple[float, float]:
        """Return ``latency`` as (TTFT, time per output token), seconds: asked tens of times for an operating point."""
        # The step first: what waits ask of the same batch is then known.
        base, added = self._step_parts(lane_batch)
        step = base + added
        of_level = self._levels.get((level, level == slo_level)) or self._of_level(level, at_slo=level == slo_level)
        service = self._service(step, added, self._computed)
        length = self._service(step, added, of_level.long_tokens) - service
        if waiting:
            prefill, place = self.waits(lane_batch)
            prefill_mean, place_mean = prefill.mean_seconds, place.mean_seconds
            mean = service + prefill_mean + place_mean
            ttft = math.inf
            if mean < math.inf:
                deviation = combine_deviations(
                    length,
                    # A rare wait has a mean but no quantile: its mean stays in, or more load would look faster.
                    max(prefill.quantile_seconds(level) - prefill_mean, 0.0),
                    max(place.quantile_seconds(level) - place_mean, 0.0),
                    # A request arrives anywhere within the step that is running.
                    of_level.within * step,
                    # What clients, HTTP and tokenisation take is as irregular as a short queue: exponential.
                    of_level.overhead_seconds,
                )
                ttft = max(mean + deviation, self._service(step, added, 1.0))
        else:
            deviation = combine_deviations(length, 0.0, 0.0, 0.0, of_level.overhead_seconds)
            ttft = max(service + deviation, self._service(step, added, 1.0)) if service < math.inf else math.inf
        spread = of_level.deviation * math.sqrt(self.dispersion * max(lane_batch, 0.0))
        batch = min(max(lane_batch + spread, 0.0), self.max_lane_batch)
        tpot = step if batch == lane_batch else self.step_seconds(batch)
        if level >= 0.5:
            utilisation = lane_batch / (self._output * step) / self._saturation
            tpot = max(tpot, step * decode_spread(utilisation, level))
        return ttft, tpot

    def _of_level(self, level: float, *, at_slo: bool) -> Percentile:
        """Return what a percentile is at any load; ``at_slo``: with the workload's own length of a prompt."""
        given = self.workload.input_quantile if at_slo else None
        if given is None:
            given = length_quantile(self._input, self.workload.input_tokens_squared, level)
        long_tokens = max(given * self._computed / self._input, 1.0)
        self._levels[level, at_slo] = percentile(level, long_tokens, self._latency.overhead_seconds)
        return self._levels[level, at_slo]

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
        """Return the unscaled terms of ``closed_loop_ttft_seconds``, ordered as ``global_fit.TTFT_TERMS``."""
        base, added = self._step_parts(lane_batch)
        own = self._computed * self._prompt_seconds
        return ttft_terms(base, base + added, own, concurrency / self.lanes, concurrency)

    def closed_loop_ttft_seconds(self, lane_batch: float, concurrency: float) -> float:
        """Return the TTFT when ``concurrency`` clients send back to back, with ``lane_batch`` of each lane decoding.

        Clients that finish together send together, so a prompt waits behind others': a sum of terms (a constant, the
        step, the own prompt, a share of everybody's, a cost per client, reading the weights, steps of the batch), each
        scaled as measured for this kind of deployment (``sizing.calibration.global_fit``), or fitted for this device
        (``Overheads``).
        """
        terms = self.closed_loop_ttft_terms(lane_batch, concurrency)
        if self._closed_factors is None:
            overheads = self.resolved.gpu.overheads
            learned = self._coefficients.learned.closed_loop_ttft
            of_kind = learned.factors(features(self.resolved)) if overheads is None else device_factors(overheads)
            self._closed_factors = of_kind
        return sum(factor * term for factor, term in zip(self._closed_factors, terms, strict=True))

    def closed_loop_wave_ratio(self, lane_batch: float) -> float:
        """Return the least TPOT of a closed loop over the predicted one (``closed_loop.wave_ratio``)."""
        prompts = max(lane_batch, self._least_batch) * self._computed / self._output * self._prompt_seconds
        prompts_first = features(self.resolved)["sglang"] > 0
        return wave_ratio(prompts_first, min(prompts / self.step_seconds(lane_batch), 1.0))

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
        saturation = self.saturation_requests_per_second
        batches = [self.lane_batch(saturation * 0.98 * (i + 1) / points) for i in range(points)]
        return tuple(self.point(batch) for batch in batches if batch is not None)
