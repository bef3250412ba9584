"""The nouns of sizing: what is deployed, what is asked of it, what is demanded, what is recommended.

Plain frozen dataclasses; None means unknown or "no opinion", never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "CHECKPOINT_PRECISION",
    "Confidence",
    "Constraint",
    "Counterfactual",
    "Demand",
    "Deployment",
    "PolicyConfig",
    "Reason",
    "Recommendation",
    "RecommendationState",
    "Slo",
    "Workload",
]


#: The precision of a deployment whose weights are as the checkpoint has them.
CHECKPOINT_PRECISION = "auto"


class Constraint(StrEnum):
    """What binds: the resource or rule that decides the number of replicas."""

    PREFILL_COMPUTE = "prefill_compute"
    DECODE_LATENCY = "decode_latency"
    KV_MEMORY = "kv_memory"
    QUEUE_WAIT = "queue_wait"
    MAX_NUM_SEQS = "max_num_seqs"
    MIN_REPLICAS = "min_replicas"
    SLO_INFEASIBLE = "slo_infeasible"
    UTILISATION_MARGIN = "utilisation_margin"


class Reason(StrEnum):
    """Why the recommendation is what it is. Append only."""

    FORECAST_UP = "forecast_up"
    OBSERVED_UP = "observed_up"
    FORECAST_DOWN = "forecast_down"
    WITHIN_BAND = "within_band"
    STABILISING = "stabilising"
    COLD_START = "cold_start"
    TELEMETRY_GAP = "telemetry_gap"
    SLO_INFEASIBLE = "slo_infeasible"
    NO_PROFILE = "no_profile"
    MIN_REPLICAS = "min_replicas"
    MAX_REPLICAS = "max_replicas"
    STEP_LIMIT = "step_limit"
    QUEUE_UP = "queue_up"
    MANUAL_CHANGE = "manual_change"
    INPUT_UNHEALTHY = "input_unhealthy"


class RecommendationState(StrEnum):
    """How the advice may be used: ``fresh`` both ways, every other state never to scale down."""

    FRESH = "fresh"
    HOLD = "hold"
    COLD_START = "cold_start"
    DEGRADED = "degraded"


class Confidence(StrEnum):
    """How far the sizing is from what has been measured."""

    CALIBRATED = "calibrated"
    INTERPOLATED = "interpolated"
    EXTRAPOLATED = "extrapolated"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Slo:
    """Latency objectives in seconds at percentile ``percentile`` (0–1); TTFT runs from arrival. None: not asked for."""

    ttft_seconds: float | None = 1.0
    tpot_seconds: float | None = 0.05
    percentile: float = 0.95


@dataclass(frozen=True, slots=True)
class Deployment:
    """One replica as it is (or would be) deployed. Names are resolved by ``sizing.catalog``.

    ``model`` is a catalogue name or the path of a Hugging Face ``config.json``; ``precision`` is that of the weights
    (bf16, fp8, int8, int4, nvfp4, mxfp4; auto: as the checkpoint has them), ``kv_precision`` that of the KV cache
    (None: as the checkpoint asks where the engine heeds it, else bf16). ``engine_version`` is a release such as 0.18.0
    (None: the newest known), ``max_model_len`` the longest sequence that the engine is started for (None: what the
    model allows). ``observed_kv_tokens`` is the KV cache size of one replica that the engine itself printed; it wins
    over the formula.
    """

    model: str
    gpu: str
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    expert_parallel: int = 1
    data_parallel: int = 1
    precision: str = CHECKPOINT_PRECISION
    kv_precision: str | None = None
    max_num_seqs: int = 256
    max_batched_tokens: int = 8192
    memory_utilisation: float = 0.90
    observed_kv_tokens: int | None = None
    engine: str = "vllm"
    engine_version: str | None = None
    max_model_len: int | None = None

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel


@dataclass(frozen=True, slots=True)
class Workload:
    """Length moments of the requests, in tokens per request.

    ``input_tokens`` includes cached ones; ``cached_share`` is the share of input tokens served from the prefix cache.
    Second moments default to those of constant lengths; ``input_quantile`` and ``output_quantile`` are the lengths at
    the SLO's percentile (None: derived from the moments by a lognormal).
    """

    input_tokens: float
    output_tokens: float
    input_tokens_squared: float | None = None
    output_tokens_squared: float | None = None
    input_output_product: float | None = None
    cached_share: float = 0.0
    input_quantile: float | None = None
    output_quantile: float | None = None


@dataclass(frozen=True, slots=True)
class Provision:
    """The demand to provision for, rates per second and resident KV tokens, and the rules that it comes from.

    ``weights`` are those of the rules that say most, by name, the greatest first, in (0, 1].
    """

    requests_per_second: float
    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    kv_tokens: float
    weights: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Demand:
    """What the forecast says about one pool at the lead time: rates per second at ``levels`` (ascending quantiles).

    ``observed_requests_per_second`` is the newest complete window's rate; ``dispersion`` is the index of dispersion of
    arrivals (1: Poisson). ``note`` says where the quantiles are from when that is not the forecast at the lead time.
    ``provision`` is what to provision for where that is not the quantile of the policy.
    """

    levels: tuple[float, ...]
    requests_per_second: tuple[float, ...]
    workload: Workload
    horizon_seconds: float
    prefill_tokens_per_second: tuple[float, ...] | None = None
    decode_tokens_per_second: tuple[float, ...] | None = None
    kv_tokens: tuple[float, ...] | None = None
    observed_requests_per_second: float | None = None
    dispersion: float = 1.0
    note: str = ""
    provision: Provision | None = None


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """How the controller turns a plan into advice for one pool.

    ``under_to_over_cost`` is the one knob: the cost of one replica-hour too few over one too many; the demand quantile
    is cu / (cu + co). A step goes to ``max_step_up_ratio`` times what runs or is surely needed at most, and leaves
    ``max_step_down_ratio`` of what runs at least.
    """

    min_replicas: int = 1
    max_replicas: int = 64
    under_to_over_cost: float = 9.0
    lead_time_seconds: float = 120.0
    scale_down_stabilisation_seconds: float = 300.0
    max_step_up_ratio: float = 4.0
    max_step_down_ratio: float = 0.5
    ttl_seconds: float = 300.0

    @property
    def demand_quantile(self) -> float:
        """The newsvendor quantile cu / (cu + co)."""
        return self.under_to_over_cost / (1.0 + self.under_to_over_cost)


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """What one change of a ``setting`` to ``value`` would do to what a pool needs now, in words in ``text``.

    ``replicas`` would be needed, before the limits of the policy (None: the change does not fit, or does not meet the
    objective at any load). ``difference`` and ``gpus_difference`` are replicas and GPUs more (negative: fewer) than are
    needed without it, both at least ``min_replicas`` (None: also where no number of replicas meets the objective now).
    Of ``min_replicas`` and ``max_replicas`` themselves they are the change of the advice. ``caveat`` is what the change
    costs (None: nothing is known of).
    """

    setting: str
    value: str
    replicas: int | None
    difference: int | None
    gpus_difference: int | None
    text: str
    caveat: str | None = None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One piece of advice for one pool. Times are epoch seconds of event time; replicas are whole numbers.

    ``generation`` grows by one whenever the advice changes. ``evidence`` holds the numbers behind it, by name.
    ``expires_at`` bounds its use: after it, hold. ``counterfactuals`` say what would change the need (empty: held).
    """

    recommendation_id: str
    model: str
    pool: str
    generation: int
    issued_at: float
    expires_at: float
    horizon_seconds: float
    accelerator: str
    accelerators_per_replica: int
    desired: int
    lower: int
    upper: int
    min_replicas: int
    max_replicas: int
    current: int | None
    direction: str  # up | down | hold
    reason: Reason
    message: str
    constraint: Constraint | None
    clamped_by: tuple[str, ...]
    state: RecommendationState
    confidence: Confidence
    confidence_ratio: float
    evidence: dict[str, float]
    config_hash: str
    schema: str = "tokentide.recommendation.v1"
    counterfactuals: tuple[Counterfactual, ...] = ()
