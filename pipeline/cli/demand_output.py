"""The shape of demand as JSON (schemas/demand-shape.v1.schema.json), as text and as an HTML page."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from sizing.block_bootstrap import Estimate
from sizing.demand_shape import DemandShape
from sizing.explain.html import render_html
from sizing.explain.model import GIVEN, Chart, Explanation, Fact, Series, Step, Table, Value
from sizing.explain.text import columns_text
from sizing.planning.length_routing import DeploymentChoice, OffPeakSaving, RouteSaving, SplitCost
from sizing.price_age import age_words, is_stale, price_age_days

__all__ = ["Routing", "shape_html", "shape_json", "shape_text", "shape_warnings"]

CAVEATS = (
    "Telemetry says nothing about the quality of answers: whether the smaller model is good enough is to be measured.",
    "Savings are of whole replicas that follow the demand hour by hour; loading a model and failures are not in them.",
    "Output lengths are known only afterwards: routing by them supposes a limit that callers state or keep.",
    "Intervals (90 %) are the variation within this trace; what a replica carries has an error of its own.",
)
_MEASURED = "counted in the trace; interval by resampling blocks of time"
_SIZED = "operating point of each deployment for the lengths of its part (docs/demand-shape.md)"
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True, slots=True)
class Routing:
    """What two deployments would make of the trace."""

    large: DeploymentChoice
    small: DeploymentChoice
    routes: tuple[RouteSaving, ...]
    off_peak: tuple[OffPeakSaving, ...]
    splits: tuple[SplitCost, ...]


def shape_json(name: str, told: DemandShape, routing: Routing | None, day: datetime.date) -> dict[str, Any]:
    """Return the shape as the schema has it."""
    return {
        "schema": "tokentide.demand-shape.v1",
        "trace": name,
        "reference_date": day.isoformat(),
        **asdict(told),
        "routing": None if routing is None else _routing_json(routing, day),
        "caveats": list(CAVEATS),
    }


def _routing_json(routing: Routing, day: datetime.date) -> dict[str, Any]:
    return {
        "large": _choice_json(routing.large, day),
        "small": _choice_json(routing.small, day),
        "routes": [asdict(route) | {"confidence": route.confidence.value} for route in routing.routes],
        "off_peak": [asdict(one) for one in routing.off_peak],
        "splits": [asdict(one) for one in routing.splits],
    }


def _choice_json(choice: DeploymentChoice, day: datetime.date) -> dict[str, Any]:
    replica, price = choice.deployment, choice.price
    age = price_age_days(price.as_of, day)
    return {
        "model": replica.model,
        "gpu": replica.gpu,
        "tensor_parallel": replica.tensor_parallel,
        "precision": replica.precision,
        "dollars_per_gpu_hour": price.dollars_per_gpu_hour,
        "price_source": price.source,
        "price_as_of": price.as_of,
        "price_age_days": age,
        "price_stale": is_stale(age),
    }


def shape_warnings(data: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each price that is old or not dated, and for what cannot be told."""
    routing = data["routing"]
    for name in ("large", "small") if routing is not None else ():
        choice = routing[name]
        if choice["price_stale"]:
            words = age_words(choice["price_as_of"], choice["price_age_days"], data["reference_date"])
            yield f"the price of {choice['gpu']} {words}"
    if routing is not None and not routing["routes"]:
        yield "one of the deployments cannot serve its part of the requests within the SLO: no saving is told"
    if data["mean_input_tokens"]["lower"] is None:
        yield "the trace is too short to say how sure its shares are"


def shape_text(data: dict[str, Any]) -> str:
    """Return the shape of ``shape_json`` as tables and sentences."""
    lines = [_summary(data), ""]
    for table in (*_length_tables(data), *_dimension_tables(data), *_routing_tables(data)):
        lines += [table.title, *columns_text(table.columns, list(table.rows)), ""]
    return "\n".join([*lines, *data["caveats"]])


def _percent(estimate: dict[str, float | None] | Estimate | None) -> str:
    """Return a share with its interval, in per cent."""
    if estimate is None:
        return "unknown"
    found = estimate if isinstance(estimate, dict) else asdict(estimate)
    text = f"{100 * (found['value'] or 0.0):.1f}%"
    if found["lower"] is None or found["upper"] is None:
        return text
    return f"{text} ({100 * found['lower']:.1f}–{100 * found['upper']:.1f})"


def _share_words(estimate: dict[str, float | None] | None) -> str:
    return "an unknown share" if estimate is None else _percent(estimate)


def _summary(data: dict[str, Any]) -> str:
    hours = data["shape"]
    parts = [
        f"{data['requests']:,} requests over {data['seconds'] / 3600:,.1f} hours: "
        f"{data['mean_input_tokens']['value']:,.0f} input and {data['mean_output_tokens']['value']:,.0f} output tokens "
        "on average.",
        f"Of the input tokens {_share_words(data['cached_share'])} came from a cache, of the output tokens "
        f"{_share_words(data['reasoning_share'])} were reasoning.",
        f"The busiest hour has {hours['peak_to_mean']:.2f} times the mean demand, the 95 % hour "
        f"{hours['p95_to_mean']:.2f}; {hours['below_half_of_p95_share']:.0%} of hours have less than half of that.",
    ]
    return "\n".join(parts)


def _length_tables(data: dict[str, Any]) -> tuple[Table, ...]:
    columns = ("at most tokens", "requests", "input tokens", "output tokens")
    return tuple(
        Table(
            f"Requests by {what} length",
            columns,
            tuple(
                (row["tokens"], *(_percent(row[name]) for name in ("requests", "input_tokens", "output_tokens")))
                for row in data[f"by_{what}"]
            ),
            _MEASURED,
        )
        for what in ("input", "output")
    )


def _dimension_tables(data: dict[str, Any]) -> tuple[Table, ...]:
    return tuple(
        Table(
            f"Requests by {name}",
            (name, "requests", "tokens", "mean input", "mean output", "cached"),
            tuple(
                (
                    *(row["value"], _percent(row["requests"]), _percent(row["tokens"])),
                    *(row["mean_input_tokens"], row["mean_output_tokens"], _percent(row["cached_share"])),
                )
                for row in rows
            ),
            _MEASURED,
        )
        for name, rows in data["dimensions"].items()
    )


def _routing_tables(data: dict[str, Any]) -> tuple[Table, ...]:
    routing = data["routing"]
    if routing is None:
        return ()
    small = f"{routing['small']['model']} on {routing['small']['gpu']}"
    tables = [
        Table(
            f"Short requests to {small}",
            ("input at most", "output at most", "requests", "tokens", "saves", "saves at scale", "known"),
            tuple(_route_row(row) for row in routing["routes"]),
            _SIZED,
        ),
        Table(
            f"Quiet hours to {small}",
            ("below share of the 95 % hour", "hours", "requests", "saves"),
            tuple(
                (f"{r['below_share']:.0%}", f"{r['hours_share']:.0%}", _percent(r["requests"]), _percent(r["saving"]))
                for r in routing["off_peak"]
            ),
            _SIZED,
        ),
    ]
    if routing["splits"]:
        tables.append(
            Table(
                "Replicas of their own, against all together",
                ("dimension", "values", "dollars"),
                tuple((row["dimension"], row["values"], _percent(row["dollars_ratio"])) for row in routing["splits"]),
                _SIZED,
            )
        )
    return tuple(tables)


def _route_row(row: dict[str, Any]) -> tuple[Value, ...]:
    bound = "any" if row["output_tokens"] is None else row["output_tokens"]
    shares = (_percent(row[name]) for name in ("requests", "tokens", "saving", "saving_at_scale"))
    return (row["input_tokens"], bound, *shares, row["confidence"])


def shape_html(data: dict[str, Any]) -> str:
    """Return the shape of ``shape_json`` as a page of its own."""
    hours = data["shape"]
    steps = [
        Step(
            1,
            "Lengths",
            "How long are requests and answers?",
            (Fact("requests", data["requests"], "", GIVEN),),
            (
                Fact("mean input", data["mean_input_tokens"]["value"], "tokens", _MEASURED),
                Fact("mean output", data["mean_output_tokens"]["value"], "tokens", _MEASURED),
                Fact("cached input tokens", _percent(data["cached_share"]), "", _MEASURED),
                Fact("reasoning output tokens", _percent(data["reasoning_share"]), "", _MEASURED),
            ),
            _summary(data),
            _length_tables(data),
        ),
        Step(
            2,
            "Week and day",
            "When do requests come (UTC)?",
            (),
            (Fact("busiest hour over mean", hours["peak_to_mean"], "", _MEASURED),),
            f"{hours['below_half_of_p95_share']:.0%} of hours have less than half of the demand of the 95 % hour.",
            charts=(
                _bars("Demand by weekday", dict(zip(_WEEKDAYS, hours["weekdays"], strict=True))),
                _bars("Demand by hour", {str(hour): value for hour, value in enumerate(hours["hours"])}),
            ),
        ),
    ]
    rest = (*_dimension_tables(data), *_routing_tables(data))
    if rest:
        steps.append(
            Step(3, "What could serve them", "Who asks, and what would routing save?", (), (), CAVEATS[0], rest)
        )
    answer = " ".join([_summary(data).splitlines()[0], *data["caveats"]])
    return render_html(Explanation(f"The requests of {data['trace']}", answer, tuple(steps)))


def _bars(title: str, values: dict[str, float | None]) -> Chart:
    known = {name: value for name, value in values.items() if value is not None}
    return Chart("stacked", title, "", "over the mean", (Series("demand", tuple(known), tuple(known.values())),))
