"""The sections of the settings, one class each: names, defaults, bounds, and what one section alone can check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    SecretStr,
    field_validator,
    model_validator,
)

from pipeline.config.checks import (
    check_bootstrap,
    check_horizons,
    check_memory_limit,
    check_topics,
)
from pipeline.config.exogenous import ExogenousSettings
from pipeline.config.kafka import KafkaSecuritySettings
from pipeline.config.sources import SourceSettings
from pipeline.events.codecs.registry import MAPPING
from pipeline.windows.dedupe import MAX_HORIZON_RECORDS
from sizing.types import Deployment, PolicyConfig, Slo

__all__ = [
    "AdviseSettings",
    "ClockSettings",
    "ForecastSettings",
    "KafkaSettings",
    "PoolSettings",
    "ReaderSettings",
    "StoreSettings",
    "StreamSettings",
    "WindowSettings",
]

#: Sixty-three years: the store keeps grains and horizons in 32 bits.
_LONGEST_SECONDS = 2_000_000_000
_YEAR_2100 = 4_102_444_800
#: What a process may wait for in one go; more than 24 days overflow the system calls below.
_LONGEST_WAIT_SECONDS = 86_400
_MOST_SHARDS = 1_024
_MOST_REPLICAS = 1_000_000

_Seconds = Annotated[float, Field(gt=0, le=_LONGEST_SECONDS)]
_WholeSeconds = Annotated[int, Field(gt=0, le=_LONGEST_SECONDS)]
#: How long something is kept; nothing stores it, so that centuries may stand for ever.
_Retention = Annotated[int, Field(gt=0, le=100_000_000_000)]
_WaitSeconds = Annotated[float, Field(gt=0, le=_LONGEST_WAIT_SECONDS)]
_Count = Annotated[int, Field(gt=0, le=2**63 - 1)]
#: What Kafka's protocol has 32 bits for.
_Int32 = Annotated[int, Field(gt=0, le=2**31 - 1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class KafkaSettings(_Section):
    """Where Kafka is and how the topics are named."""

    bootstrap: str = "127.0.0.1:9092"
    requests_topic: str = "inference.requests.v1"
    deltas_topic: str = "inference.window-deltas.v1"
    windows_topic: str = "inference.windows.v1"
    forecasts_topic: str = "inference.forecasts.v1"
    recommendations_topic: str = "inference.recommendations.v1"
    alerts_topic: str = "inference.alerts.v1"
    replicas_topic: str = "inference.replicas.v1"
    calendar_topic: str = "inference.calendar.v1"
    dead_letters_topic: str = "inference.dead-letters.v1"
    partitions: _Int32 = 12
    replication_factor: int = Field(default=1, ge=-1, le=2**15 - 1, description="-1: the cluster's own default")
    create_topics: bool = True
    group_prefix: str = "tokentide"
    session_timeout_seconds: _WaitSeconds = 15.0
    publish_results: bool = True
    shards: int = Field(default=1, gt=0, le=_MOST_SHARDS, description="controllers that the pools are split over")
    security: KafkaSecuritySettings = KafkaSecuritySettings()

    @field_validator("replication_factor")
    @classmethod
    def _some_replicas(cls, value: int) -> int:
        if value == 0:
            raise ValueError("replication_factor must be at least 1, or -1 for the cluster's own default")
        return value

    @field_validator("bootstrap")
    @classmethod
    def _addresses(cls, value: str) -> str:
        check_bootstrap(value)
        return value

    @model_validator(mode="after")
    def _topics_apart(self) -> KafkaSettings:
        topics = {name: str(getattr(self, name)) for name in type(self).model_fields if name.endswith("_topic")}
        if self.shards > 1:
            topics |= {f"deltas_topic of shard {shard}": name for shard, name in enumerate(self.deltas_topics())}
        check_topics(topics)
        return self

    def deltas_topics(self) -> list[str]:
        """The topics of deltas, one for each shard; a single controller's is ``deltas_topic`` itself."""
        if self.shards == 1:
            return [self.deltas_topic]
        return [f"{self.deltas_topic}.{shard}-of-{self.shards}" for shard in range(self.shards)]


class StreamSettings(_Section):
    """The aggregator: how records are read, checked and folded."""

    max_batch_records: _Count = 20_000
    max_batch_bytes: _Int32 = Field(default=8 * 1024 * 1024, description="of values in one batch, or one record")
    queued_batches: _Count = 8
    max_event_bytes: _Count = 1_048_576
    dead_letter_bytes: int = Field(
        default=65_536, ge=0, le=2**31 - 1, description="of a refused record's value that are kept; 0: nothing of it"
    )
    codec: str = Field(default="auto", description="format of the records of kafka.requests_topic")
    mapping: dict[str, Any] = Field(default={}, description="for codec mapping: event field to path, unit, constant")
    sources: tuple[SourceSettings, ...] = Field(
        default=(), description="topics of events with their formats, in place of kafka.requests_topic"
    )
    dedupe_horizon_records: int = Field(
        default=100_000, ge=0, le=MAX_HORIZON_RECORDS, description="per partition; 0 turns it off"
    )
    max_age_seconds: _Seconds = Field(default=7 * 86_400.0, description="older than the record's timestamp")
    max_ahead_seconds: _Seconds = Field(default=60.0, description="newer than the record's timestamp")
    heartbeat_seconds: _WaitSeconds = 2.0
    shutdown_seconds: _WaitSeconds = 20.0
    instance_id: str | None = Field(default=None, description="static group membership; unset: none")

    @model_validator(mode="before")
    @classmethod
    def _shared_mapping(cls, values: Any) -> Any:
        """Sources with codec mapping and none of their own take ``stream.mapping``."""
        if not isinstance(values, dict) or not values.get("mapping") or not isinstance(values.get("sources"), list):
            return values
        shared = values["mapping"]
        sources = [
            {"mapping": shared} | source if isinstance(source, dict) and source.get("codec") == MAPPING else source
            for source in values["sources"]
        ]
        return values | {"sources": sources}

    @model_validator(mode="after")
    def _sources_once(self) -> StreamSettings:
        check_topics({f"stream.sources[{i}].topic": source.topic for i, source in enumerate(self.sources)})
        return self


class WindowSettings(_Section):
    """Event-time windows."""

    grain_seconds: _WholeSeconds = Field(default=60, description="what forecasts are made on; a multiple of 10")
    allowed_lateness_seconds: _Seconds = 60.0
    dimensions: tuple[str, ...] = Field(default=(), description="extra event fields that windows are broken down by")
    max_pools: _Count = Field(default=1_000, description="further (model, pool) pairs fold into __other__")

    @model_validator(mode="after")
    def _whole_windows(self) -> WindowSettings:
        if self.grain_seconds % 10:
            raise ValueError("grain_seconds must be a multiple of 10")
        allowed = {
            "tenant",
            "workload",
            "priority",
            "region",
            "cluster",
            "namespace",
            "engine",
            "accelerator",
            "variant",
        }
        if len(set(self.dimensions)) < len(self.dimensions):
            raise ValueError(f"dimensions {list(self.dimensions)} name a field twice")
        unknown = sorted(set(self.dimensions) - allowed)
        if unknown:
            raise ValueError(f"dimensions {unknown} are not event fields that can be kept apart ({sorted(allowed)})")
        return self


class StoreSettings(_Section):
    """The DuckDB file of a controller."""

    path: Path = Path("tokentide.duckdb")
    retention_base_seconds: _Retention = 3 * 86_400
    retention_closed_seconds: _Retention = 90 * 86_400
    retention_forecasts_seconds: _Retention = 7 * 86_400
    snapshot_every_steps: _Count = Field(
        default=30,
        description="in so many steps the state of every pool is kept; sooner where steps are costly to learn again",
    )
    memory_limit: str = "2GB"
    export_folder: Path | None = Field(default=None, description="where the controller keeps its history as Parquet")
    export_every_seconds: _Seconds = 3_600.0

    @field_validator("path")
    @classmethod
    def _names_a_file(cls, value: Path) -> Path:
        if not value.name:
            raise ValueError(f"{str(value)!r} names no file; tokentide.duckdb would do")
        return value

    @field_validator("memory_limit")
    @classmethod
    def _amount(cls, value: str) -> str:
        check_memory_limit(value)
        return value


class ForecastSettings(_Section, ExogenousSettings):
    """The minute-grain forecasters."""

    horizons_seconds: tuple[_WholeSeconds, ...] = (60, 300, 900, 1800, 3600)
    season_seconds: _WholeSeconds = 86_400
    experts: tuple[str, ...] = Field(
        default=("default",), min_length=1, max_length=64, description="default, and experts that join it"
    )
    tenant_series: int = Field(
        default=0, ge=0, le=32, description="most tenants of a pool that are forecast apart; needs the dimension tenant"
    )

    @model_validator(mode="after")
    def _horizons_within_a_season(self) -> ForecastSettings:
        check_horizons(self.horizons_seconds, self.season_seconds)
        return self

    @model_validator(mode="after")
    def _exogenous_is_used(self) -> ForecastSettings:
        self.check_exogenous(self.experts)
        return self


class AdviseSettings(_Section):
    """Alerts and the guard against missing telemetry."""

    false_alerts_per_day: float = Field(default=1.0, ge=1e-6, le=1e6)
    gap_min_expected_requests: PositiveFloat = Field(default=20.0, description="a silent window is a gap above this")
    gap_accept_seconds: _Seconds = Field(default=3600.0, description="silence this long is believed")
    forecast_alert_probability: float = Field(default=0.5, gt=0, lt=1)
    replica_report_max_age_seconds: _Seconds = Field(
        default=300.0, description="an older report of the fleet says nothing: its replicas are unknown"
    )
    revise_every_seconds: int = Field(
        default=15,
        ge=0,
        le=3_600,
        description="how often reports of the fleet may raise advice between windows; 0: never",
    )


class SizingSettings(_Section):
    """What sizing knows beside its own catalogue."""

    catalog: str | None = Field(
        default=None, description="YAML or JSON with GPUs and models of your own, as `tokentide size --catalog` takes"
    )


class PoolSettings(_Section):
    """One pool: which replica serves it, which latency it owes, how it may be scaled."""

    model: str
    pool: str = "default"
    aliases: tuple[str, ...] = Field(
        default=(),
        description="further names of the model, as MODEL or MODEL|POOL, * and ? as wildcards; counted in this pool",
    )
    profile: str
    accelerator: str
    tensor_parallel: _Count = 1
    pipeline_parallel: _Count = 1
    expert_parallel: _Count = 1
    data_parallel: _Count = 1
    precision: str = Field(default="auto", description="of the weights; auto: as the checkpoint has them")
    kv_precision: str | None = None
    engine: str = Field(default="vllm", description="vllm, sglang or tensorrt-llm")
    engine_version: str | None = Field(default=None, description="a release such as 0.18.0; unset: the newest known")
    max_model_len: _Count | None = None
    max_num_seqs: _Count = 256
    max_batched_tokens: _Count = 8192
    memory_utilisation: float = Field(default=0.90, gt=0, le=1)
    observed_kv_tokens: _Count | None = None
    ttft_seconds: PositiveFloat | None = 1.0
    tpot_seconds: PositiveFloat | None = 0.05
    slo_percentile: float = Field(default=0.95, gt=0, lt=1)
    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int = Field(default=64, gt=0, le=_MOST_REPLICAS)
    under_to_over_cost: PositiveFloat = 9.0
    lead_time_seconds: _Seconds = Field(
        default=120.0, description="from asking for a replica to it serving, until enough start-ups were seen"
    )
    lead_time_floor_seconds: _Seconds | None = Field(
        default=None, description="least lead time by measured start-ups; unset: lead_time_seconds"
    )
    scale_down_stabilisation_seconds: _Seconds = Field(
        default=300.0, description="how long fewer must do before they are advised, and a manual change is left alone"
    )
    max_step_up_ratio: float = Field(
        default=4.0, gt=1, le=_MOST_REPLICAS, description="of what runs or is surely needed, in one step"
    )
    max_step_down_ratio: float = Field(default=0.5, gt=0, le=1, description="of what runs, left after one step")
    ttl_seconds: _Seconds = 300.0
    decision_rules: tuple[str, ...] = Field(
        default=("observed", "forecast", "recent_peak", "season", "trend"),
        description="rules that compete to say what to provision for; none: the forecast's quantile",
    )
    initial_replicas: int | None = Field(default=None, gt=0, le=_MOST_REPLICAS)

    @model_validator(mode="after")
    def _limits_not_crossed(self) -> PoolSettings:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}; lower the one or raise "
                "the other"
            )
        return self

    def deployment(self) -> Deployment:
        """The replica of this pool."""
        return Deployment(
            model=self.profile,
            gpu=self.accelerator,
            tensor_parallel=self.tensor_parallel,
            pipeline_parallel=self.pipeline_parallel,
            expert_parallel=self.expert_parallel,
            data_parallel=self.data_parallel,
            precision=self.precision,
            kv_precision=self.kv_precision,
            max_num_seqs=self.max_num_seqs,
            max_batched_tokens=self.max_batched_tokens,
            memory_utilisation=self.memory_utilisation,
            observed_kv_tokens=self.observed_kv_tokens,
            engine=self.engine,
            engine_version=self.engine_version,
            max_model_len=self.max_model_len,
        )

    def slo(self) -> Slo:
        """What latency this pool owes."""
        return Slo(self.ttft_seconds, self.tpot_seconds, self.slo_percentile)

    def policy(self) -> PolicyConfig:
        """How this pool may be scaled."""
        return PolicyConfig(
            min_replicas=self.min_replicas,
            max_replicas=self.max_replicas,
            under_to_over_cost=self.under_to_over_cost,
            lead_time_seconds=self.lead_time_seconds,
            scale_down_stabilisation_seconds=self.scale_down_stabilisation_seconds,
            max_step_up_ratio=self.max_step_up_ratio,
            max_step_down_ratio=self.max_step_down_ratio,
            ttl_seconds=self.ttl_seconds,
        )


class ReaderSettings(_Section):
    """The event reader: announcements to calendar records through an OpenAI-compatible endpoint. Off by default."""

    enabled: bool = False
    base_url: str = Field(default="", description="up to and including /v1; http or https")
    model: str = ""
    api_key: SecretStr | None = None
    kinds: tuple[str, ...] = Field(default=("launch", "campaign", "holiday", "news", "maintenance"), min_length=1)
    response_format: Literal["json_schema", "json_object", "none"] = "json_schema"
    timeout_seconds: _WaitSeconds = 60.0
    max_output_tokens: _Count = 2_000
    max_calls: _Count = Field(default=20, description="per run of the command")
    max_tokens: _Count = Field(default=100_000, description="input and output, per run of the command")
    max_confidence: float = Field(default=0.8, gt=0, le=1, description="what a machine has read is never surer")

    @model_validator(mode="after")
    def _complete(self) -> ReaderSettings:
        if self.enabled and not (self.base_url.startswith(("http://", "https://")) and self.model):
            raise ValueError("the event reader needs base_url (http or https) and model")
        return self


class ClockSettings(_Section):
    """Simulated time for demos and replays; unset: the machine's clock."""

    pace_file: Path | None = Field(default=None, description="read simulated time from there; its writer sets the pace")
    origin: float | None = Field(default=None, ge=0, le=_YEAR_2100)
    wall_origin: float | None = Field(default=None, ge=0, le=_YEAR_2100)
    speed: float = Field(default=1.0, gt=0, le=1e6)

    @model_validator(mode="after")
    def _both_origins(self) -> ClockSettings:
        if self.origin is not None and self.wall_origin is None:
            raise ValueError("origin needs wall_origin, the machine's time at which the simulated time was that")
        return self
