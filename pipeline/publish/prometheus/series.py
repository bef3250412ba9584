"""The series that are served: names, labels, help, and where their values come from."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from pipeline.forecast.outlook import Grain
from pipeline.forecast.types import LEVELS, Signal
from pipeline.publish.metric_catalogue import METRICS
from pipeline.publish.prometheus.errors import bad_data, too_much
from pipeline.publish.prometheus.promql import Matcher
from pipeline.windows.types import PoolKey

__all__ = ["BANDS", "FAMILIES", "LATEST", "MAX_SERIES", "Family", "Labels", "Matches", "Series", "label_sets"]

#: Labels of a series, sorted by name, without ``__name__``.
Labels = tuple[tuple[str, str], ...]
#: Which of ``values`` a regular expression matches in full.
Matches = Callable[[str, Sequence[str]], set[str]]

MAX_SERIES = 1_000  # in one answer
#: Bands are quantiles: p05, p10, …
BANDS = tuple(f"p{round(level * 100):02d}" for level in LEVELS)
#: The value of ``as_of`` of the newest forecast.
LATEST = "latest"
_TOKENS = {Signal.PREFILL_TOKENS: "uncached_input", Signal.DECODE_TOKENS: "output"}


@dataclass(frozen=True, slots=True)
class Family:
    """A metric. ``measure`` is what the store calls its value, ``labels`` the labels beside model and pool.

    ``source`` is ``windows``, ``advice``, ``lead`` (forecasts by how far ahead they were made) or ``path`` (one
    forecast at all its target times).
    """

    name: str
    help: str
    source: str
    measures: tuple[tuple[Labels, str], ...]
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()


def _forecasts(kind: str, text: str, labels: tuple[tuple[str, tuple[str, ...]], ...]) -> Iterator[Family]:
    bands = (("band", BANDS), *labels)
    for unit, measures in (
        ("requests_per_second", (((), Signal.REQUESTS.value),)),
        ("tokens_per_second", tuple(((("token_type", name),), signal.value) for signal, name in _TOKENS.items())),
        ("kv_tokens", (((), Signal.KV_TOKENS.value),)),
    ):
        yield Family(f"tokentide_forecast_{kind}_{unit}", text, kind, measures, bands)


def _known(name: str, source: str, *measures: tuple[Labels, str]) -> Family:
    """A family that ``/metrics`` has, too."""
    return Family(name, METRICS[name].help, source, measures)


FAMILIES: tuple[Family, ...] = (
    _known("tokentide_demand_requests_per_second", "windows", ((), Signal.REQUESTS.value)),
    _known(
        "tokentide_demand_tokens_per_second",
        "windows",
        *(((("token_type", name),), signal.value) for signal, name in _TOKENS.items()),
    ),
    _known("tokentide_demand_kv_tokens", "windows", ((), Signal.KV_TOKENS.value)),
    _known("tokentide_current_replicas", "windows", ((), "current_replicas")),
    _known("tokentide_recommended_replicas", "advice", ((), "desired")),
    _known("tokentide_recommended_replicas_lower", "advice", ((), "lower")),
    _known("tokentide_recommended_replicas_upper", "advice", ((), "upper")),
    *_forecasts(
        "path",
        "One forecast at its target times, in between as a straight line: the newest (as_of latest), or the one that "
        "was the newest at a time (as_of, epoch seconds).",
        (("grain", tuple(grain.value for grain in Grain)), ("as_of", (LATEST,))),
    ),
    *_forecasts("lead", "Forecasts made horizon_seconds ahead, at their target times.", (("horizon_seconds", ()),)),
)


@dataclass(frozen=True, slots=True)
class Series:
    """One series: its family, what the store calls its value, its pool, and its labels without the name."""

    family: Family
    measure: str
    pool: PoolKey
    labels: dict[str, str]

    @property
    def metric(self) -> dict[str, str]:
        """All labels, with ``__name__``."""
        return {"__name__": self.family.name, **self.labels}


def label_sets(
    matchers: Sequence[Matcher],
    pools: Sequence[PoolKey],
    horizons_seconds: Sequence[int],
    matches: Matches,
    limit: int = MAX_SERIES,
) -> list[Series]:
    """Return the series of which all matchers hold, by metric, pool and labels.

    A matcher ``as_of="…"`` or ``horizon_seconds="…"`` may name a value that is not listed.

    Raises:
        QueryError: there are more than ``limit``, or ``as_of`` is no time.
    """
    exact = {matcher.name: matcher.value for matcher in matchers if matcher.op == "="}
    horizons = tuple(str(horizon) for horizon in horizons_seconds)
    found: list[Series] = []
    for family in FAMILIES:
        if not _holds(matchers, "__name__", (family.name,), matches):
            continue
        for more, measure in family.measures:
            domains = dict(family.labels) | {name: (value,) for name, value in more}
            if "horizon_seconds" in domains:
                domains["horizon_seconds"] = _named(exact.get("horizon_seconds"), horizons, _is_whole)
            if "as_of" in domains:
                domains["as_of"] = _named(exact.get("as_of"), (LATEST,), _is_time)
            known = {"__name__", "model", "pool", *domains}
            if any(
                matcher.name not in known and not _holds((matcher,), matcher.name, ("",), matches)
                for matcher in matchers
            ):
                continue
            kept = {name: _holds(matchers, name, values, matches) for name, values in domains.items()}
            models = set(_holds(matchers, "model", sorted({key.model for key in pools}), matches))
            names = set(_holds(matchers, "pool", sorted({key.pool for key in pools}), matches))
            wanted = [key for key in pools if key.model in models and key.pool in names]
            size = len(wanted) * math.prod(map(len, kept.values()))
            if len(found) + size > limit:
                raise too_much(f"the query selects more than {limit} series; narrow it by labels")
            for key, values in product(wanted, product(*kept.values())):
                labels = {"model": key.model, "pool": key.pool, **dict(zip(kept, values, strict=True))}
                found.append(Series(family, measure, key, labels))
    return found


def _holds(matchers: Iterable[Matcher], name: str, values: Sequence[str], matches: Matches) -> list[str]:
    """The values of a label for which every matcher of it holds."""
    kept = list(values)
    for matcher in matchers:
        if matcher.name != name or not kept:
            continue
        if matcher.op in ("=", "!="):
            kept = [value for value in kept if (value == matcher.value) == (matcher.op == "=")]
        else:
            hits = matches(matcher.value, kept)
            kept = [value for value in kept if (value in hits) == (matcher.op == "=~")]
    return kept


def _named(value: str | None, listed: tuple[str, ...], valid: Callable[[str], bool]) -> tuple[str, ...]:
    """The values that are listed, or the one that a query names."""
    if value is None or value == "" or value in listed:
        return listed
    if not valid(value):
        raise bad_data(
            f"as_of must be {LATEST} or epoch seconds, and horizon_seconds a whole number, not {value[:64]!r}"
        )
    return (value,)


def _is_time(value: str) -> bool:
    return re.fullmatch(r"\d{1,11}(\.\d{1,3})?", value, re.ASCII) is not None


def _is_whole(value: str) -> bool:
    return re.fullmatch(r"\d{1,8}", value, re.ASCII) is not None
