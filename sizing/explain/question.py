"""The question that an explanation answers, with everything the steps share worked out once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from sizing.catalog import Catalog, Price
from sizing.compare import Option, Outcome, evaluate
from sizing.economics import ApiPrice
from sizing.planning.demand_needs import demand_quantile
from sizing.planning.known_point import Known, known_point
from sizing.planning.operating_point import OperatingPoint
from sizing.planning.plan import Plan, plan_at
from sizing.replica.memory import Memory, Resolved, resolve
from sizing.replica.replica_model import ReplicaModel
from sizing.types import Demand, Deployment, PolicyConfig, Slo, Workload

if TYPE_CHECKING:  # who passes a calibration has loaded it
    from sizing.calibration.calibrator import Calibration

__all__ = ["Question", "Worked"]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: a deployment, an objective, and a demand with its quantiles at the lead time.

    ``demand.workload`` are the lengths. ``price`` None takes the catalogue's. ``calibration`` is what measurements of
    this deployment taught, ``api`` the price to compare with.
    """

    deployment: Deployment
    slo: Slo
    demand: Demand
    policy: PolicyConfig = field(default_factory=lambda: PolicyConfig(max_replicas=1_000_000))
    price: Price | None = None
    api: ApiPrice | None = None
    calibration: Calibration | None = None


class Worked:
    """A question with what several steps need; everything else the steps work out themselves.

    Raises:
        UnknownModel, UnknownGpu, InvalidInput: the question cannot be understood.
        DoesNotFit: the weights or one request do not fit; the text says what would.
    """

    def __init__(self, question: Question, catalog: Catalog | None = None) -> None:
        self.question = question
        self.catalog = catalog or Catalog()
        self.resolved: Resolved = resolve(question.deployment, self.catalog)
        self.workload: Workload = question.demand.workload
        self.point: OperatingPoint
        self.known: Known
        self.point, self.known = known_point(
            self.resolved,
            self.workload,
            question.slo,
            dispersion=question.demand.dispersion,
            calibration=question.calibration,
        )
        self.replica = ReplicaModel(
            self.resolved,
            self.workload,
            dispersion=question.demand.dispersion,
            coefficients=self.known.coefficients,
        )
        self.plan: Plan = plan_at(self.point, question.demand, question.policy, self.known)
        self.price: Price | None = question.price or self.resolved.gpu.price

    @property
    def memory(self) -> Memory:
        """Memory of one replica."""
        return self.replica.memory

    @property
    def lane_batch(self) -> float:
        """Decoding sequences of one lane at the operating point."""
        return self.point.batch / self.resolved.lanes

    @cached_property
    def median_rate(self) -> float:
        """The median of the demand, requests per second."""
        demand = self.question.demand
        return demand_quantile(demand.levels, demand.requests_per_second, 0.5)

    def option(self, name: str, **changes: object) -> Option:
        """Return the question as an option, with fields of ``Option`` changed."""
        base = {
            "deployment": self.question.deployment,
            "workload": self.workload,
            "slo": self.question.slo,
            "requests_per_second": self.plan.demand_requests_per_second,
            "dispersion": self.question.demand.dispersion,
            "price": self.question.price,
            "calibration": self.question.calibration,
        }
        return Option(name=name, **(base | changes))  # type: ignore[arg-type]

    def outcome(self, option: Option) -> Outcome:
        """Size an option under the question's policy."""
        return evaluate(option, self.question.policy, self.catalog)

    @cached_property
    def model_source(self) -> str:
        """Where the model's figures are from."""
        return f"catalogue: {self.resolved.model.source}"

    @cached_property
    def gpu_source(self) -> str:
        """Where the GPU's figures are from."""
        return f"catalogue: {self.resolved.gpu.source} ({self.resolved.gpu.as_of})"

    @cached_property
    def step_source(self) -> str:
        """Where step times are from."""
        if self.known.points:
            return f"step model, calibrated on {self.known.points} measured points of this deployment"
        return "step model, global fit on public end-to-end measurements (docs/sizing.md)"
