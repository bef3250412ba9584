"""The routes under ``/prometheus/api/v1``: parameters and answers as Prometheus has them
(https://prometheus.io/docs/prometheus/latest/querying/api/).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import msgspec
import numpy as np
from aiohttp import web
from multidict import MultiDict

import pipeline
from pipeline.clock import Clock
from pipeline.errors import InputError, StoreError
from pipeline.publish.history_reads import ReadQueue
from pipeline.publish.http.answer import tagged
from pipeline.publish.http.parameter import Parameter, text
from pipeline.publish.http.route import Route
from pipeline.publish.problem import ProblemError
from pipeline.publish.prometheus.errors import QueryError, bad_data, too_much
from pipeline.publish.prometheus.evaluate import Vector, evaluate, horizons_seconds, known_pools
from pipeline.publish.prometheus.form import duration, limit_of, needed, read_form, time_of
from pipeline.publish.prometheus.promql import MAX_LENGTH, Node, Selector, parse
from pipeline.publish.prometheus.series import FAMILIES, Series, label_sets
from pipeline.publish.reader import Reader
from pipeline.publish.state import LiveState
from pipeline.store.series import Grid

__all__ = ["PROMETHEUS_PATH", "PrometheusApi"]

PROMETHEUS_PATH = "/prometheus/api/v1"
MAX_POINTS = 11_000  # of a series, as in Prometheus
MAX_MATCHES = 32  # match[] of one request
#: Series in an answer that only lists them.
MAX_LISTED = 10_000

_REFUSED: dict[str, Any] = {"$ref": "#/components/responses/PrometheusError"}
_ANSWER = {"$ref": "#/components/schemas/PrometheusAnswer"}


def _optional(name: str, description: str) -> Parameter[str]:
    return text(name, description, max_length=MAX_LENGTH)


def _required(name: str, description: str) -> Parameter[str]:
    return text(name, description, max_length=MAX_LENGTH, min_length=1, required=True)


def _matches(required: bool) -> Parameter[str]:
    one = {"type": "string", "maxLength": MAX_LENGTH}
    schema = {"type": ["array", "string"], "items": one, "maxItems": MAX_MATCHES, "maxLength": MAX_LENGTH}
    return Parameter("match[]", schema, str, "selectors", required=required)


_TIMES = "epoch seconds or RFC 3339"
_QUERY = _required("query", "PromQL: selectors, offset, sum, min, max, avg, count, arithmetic with numbers")
_RANGE = (_required("start", _TIMES), _required("end", _TIMES), _required("step", "seconds or a duration, such as 1m"))
_LIMIT = Parameter(
    "limit",
    {"type": "string", "pattern": "^[0-9]{0,9}$(?!\\n)"},
    str,
    "entries at most; 0: as many as the server gives",
)
_LISTED = (_optional("start", _TIMES), _optional("end", _TIMES), _LIMIT)


class PrometheusApi:
    """Handlers over the live state and the store."""

    def __init__(self, live: LiveState, reader: Reader | None, clock: Clock, queue: ReadQueue) -> None:
        self._live = live
        self._maybe_reader = reader
        self._clock = clock
        self._queue = queue

    def routes(self) -> list[Route]:
        """Return the entries of the route table."""
        both = ("GET", "POST")
        listing = (_matches(required=False), *_LISTED)
        rows: list[tuple[str, str, str, Any, tuple[Parameter[Any], ...], tuple[str, ...]]] = [
            ("query", "Query", "A query at one time.", self.query,
             (_QUERY, _optional("time", f"{_TIMES}; default now")), both),
            ("query_range", "QueryRange", "A query at the times of a range.", self.query_range,
             (_QUERY, *_RANGE), both),
            ("series", "Series", "The label sets that selectors select.", self.series,
             (_matches(required=True), *_LISTED), both),
            ("labels", "Labels", "The names of labels.", self.labels, listing, both),
            ("label/{name}/values", "LabelValues", "The values of a label.", self.label_values, listing, ("GET",)),
            ("metadata", "Metadata", "Type and help of the metrics.", self.metadata,
             (_optional("metric", "only of this one"), _LIMIT), ("GET",)),
            ("status/buildinfo", "BuildInfo", "The version of Tokentide.", self.buildinfo, (), ("GET",)),
        ]  # fmt: skip
        refusals = dict.fromkeys((400, 422, 503), _REFUSED)
        return [
            Route(f"{PROMETHEUS_PATH}/{path}", f"prometheus{name}", summary, _in_its_form(handler), _ANSWER, parameters,
                  tuple(refusals), methods=methods, refusals=refusals)
            for path, name, summary, handler, parameters, methods in rows
        ]  # fmt: skip

    @property
    def _reader(self) -> Reader:
        assert self._maybe_reader is not None  # a table that is only described serves nothing
        return self._maybe_reader

    def _evaluated(self, node: Node, grid: Grid) -> Vector:
        return self._reader.one_state(lambda: evaluate(node, grid, self._live, self._reader))

    async def query(self, request: web.Request) -> web.Response:
        """A query at one time."""
        form = await read_form(request)
        node = parse(needed(form, "query"))
        at = time_of(form.get("time"), "time", self._clock.now())

        def answer() -> bytes:
            found = self._evaluated(node, Grid(at, at, 1.0))
            if found.number is not None:
                return _success({"resultType": "scalar", "result": [at, _text(found.number)]})
            _distinct(found)
            told = [(labels, float(values[0])) for labels, values in found.series]
            result = [{"metric": labels, "value": [at, _text(n)]} for labels, n in told if not math.isnan(n)]
            return _success({"resultType": "vector", "result": result})

        return tagged(await self._queue.run(answer))

    async def query_range(self, request: web.Request) -> web.Response:
        """A query at the times of a range."""
        form = await read_form(request)
        node = parse(needed(form, "query"))
        start, end = (time_of(needed(form, name), name, 0.0) for name in ("start", "end"))
        step = duration(needed(form, "step"))
        if end < start:
            raise bad_data('invalid parameter "end": end timestamp must not be before start time')
        if (end - start) / step > MAX_POINTS:
            raise bad_data(
                f"exceeded maximum resolution of {MAX_POINTS:,} points per timeseries. Try decreasing the query "
                "resolution (?step=XX)"
            )
        grid = Grid(start, end, step)

        def answer() -> bytes:
            found = self._evaluated(node, grid)
            times = grid.times
            if found.number is not None:
                found = Vector([({}, np.full(len(times), found.number))])
            _distinct(found)
            result = []
            for labels, values in found.series:
                known = np.flatnonzero(~np.isnan(values))
                pairs = zip(np.round(times[known], 3).tolist(), map(_text, values[known].tolist()), strict=True)
                result.append({"metric": labels, "values": list(pairs)})
            return _success({"resultType": "matrix", "result": [r for r in result if r["values"]]})

        return tagged(await self._queue.run(answer))

    async def series(self, request: web.Request) -> web.Response:
        """The label sets that selectors select."""
        form = await read_form(request)
        if not form.getall("match[]", ()):
            raise bad_data("no match[] parameter provided")
        return await self._listing(form, lambda found: [one.metric for one in found])

    async def labels(self, request: web.Request) -> web.Response:
        """The names of labels."""
        return await self._listing(
            await read_form(request), lambda found: sorted({n for one in found for n in one.metric})
        )

    async def label_values(self, request: web.Request) -> web.Response:
        """The values of a label."""
        name = request.match_info["name"]
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name):
            raise bad_data(f"invalid label name: {name[:64]!r}")
        return await self._listing(
            await read_form(request), lambda found: sorted({one.metric[name] for one in found if name in one.metric})
        )

    async def metadata(self, request: web.Request) -> web.Response:
        """Type and help of the metrics."""
        form = await read_form(request)
        limit, metric = limit_of(form), form.get("metric") or None
        told = [family for family in FAMILIES if metric in (None, family.name)][:limit]
        return tagged(_success({one.name: [{"type": "gauge", "help": one.help, "unit": ""}] for one in told}))

    async def buildinfo(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """The version; clients tell by it what they may ask."""
        told = {"version": pipeline.__version__, "revision": "", "branch": "", "buildUser": "", "buildDate": ""}
        return tagged(_success({**told, "goVersion": "", "application": "Tokentide"}))

    async def _listing(self, form: MultiDict[str], list_of: Callable[[list[Series]], list[Any]]) -> web.Response:
        """What can be said of the series that ``match[]`` selects (none given: of all)."""
        selectors = [parse(query) for query in form.getall("match[]", ())]
        if len(selectors) > MAX_MATCHES:
            raise bad_data(f"more than {MAX_MATCHES} match[] parameters")
        if not all(isinstance(selector, Selector) for selector in selectors):
            raise bad_data('invalid parameter "match[]": a selector is needed')
        for name in ("start", "end"):
            time_of(form.get(name), name, 0.0)
        limit = limit_of(form)

        def answer() -> bytes:
            pools, horizons = known_pools(self._live, self._reader), horizons_seconds(self._live)
            found: dict[tuple[tuple[str, str], ...], Series] = {}
            for selector in selectors or [Selector(())]:
                assert isinstance(selector, Selector)
                for one in label_sets(selector.matchers, pools, horizons, self._reader.full_matches, MAX_LISTED):
                    found[tuple(sorted(one.metric.items()))] = one
            listed = list_of(list(found.values()))
            cut = len(listed) > (limit or len(listed))
            return _success(listed[:limit] if cut else listed, ["results truncated due to limit"] if cut else ())

        return tagged(await self._queue.run(answer))


def _in_its_form(handler: Any) -> Any:
    """A handler whose refusals have Prometheus' form."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)  # type: ignore[no-any-return]
        except QueryError as error:
            refused = error
        except InputError as error:
            refused = bad_data(str(error))
        except StoreError as error:
            refused = QueryError(503, "timeout" if "took longer" in str(error) else "unavailable", str(error))
        except ProblemError as error:
            refused = QueryError(error.status, "unavailable", error.detail, error.retry_after)
        body = {"status": "error", "errorType": refused.kind, "error": refused.detail}
        response = web.Response(body=msgspec.json.encode(body), status=refused.status, content_type="application/json")
        response.headers["Cache-Control"] = "no-store"
        if refused.retry_after is not None:
            response.headers["Retry-After"] = str(refused.retry_after)
        return response

    return answer


def _text(value: float) -> str:
    """A value as Prometheus writes it."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(float(value))


def _distinct(found: Vector) -> None:
    names = [tuple(sorted(labels.items())) for labels, _ in found.series]
    if len(set(names)) < len(names):
        raise too_much("vector cannot contain metrics with the same labelset")


def _success(data: Any, warnings: Sequence[str] = ()) -> bytes:
    told: Mapping[str, Any] = {"status": "success", "data": data}
    return msgspec.json.encode({**told, "warnings": warnings} if warnings else told)
