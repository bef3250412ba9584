"""Series from a Prometheus: the answers of ``/api/v1/query_range``, from a file or from a server.

A server refuses more than 11,000 points per series, so a long range is asked for in pieces. Samples that are NaN or
infinite (a division by zero in the query) have no value.
"""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, ServerUnavailable
from pipeline.replay.formats import Rows

__all__ = ["query_range", "range_rows", "read_range_file"]

#: Points per series in one request; Prometheus refuses more than 11,000.
MAX_POINTS = 10_000
#: Points of a whole range; more is a wrong step.
MAX_TOTAL_POINTS = 1_000_000
#: Bytes of one answer, and of a file.
MAX_BYTES = 512 * 2**20
_TIMEOUT_SECONDS = 120.0

#: Labels that ``query_range`` answers name a series by; the metric's own name comes first.
_NAME = "__name__"


def read_range_file(path: Path) -> Rows:
    """Read a saved answer of ``/api/v1/query_range``.

    Raises:
        InputError: it cannot be read, is too large, or is no such answer.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path.name} has more than the {MAX_BYTES // 2**20} MiB that are read")
    try:
        content = json.loads(path.read_bytes())
    except (OSError, RecursionError, ValueError) as error:
        raise InputError(f"{path.name} is not JSON: {str(error)[:200]}") from error
    return range_rows([content], path.name)


def range_rows(answers: Sequence[Any], name: str) -> Rows:
    """Return the samples of ``query_range`` answers (consecutive pieces of one range) as rows.

    Columns: ``timestamp`` (epoch seconds), ``value`` (NaN: none), ``series`` (the labels as PromQL writes them) and one
    column per label. Samples that two pieces share count once.

    Raises:
        InputError: an answer is an error, no matrix, or malformed.
    """
    import pandas as pd

    times: list[float] = []
    values: list[float] = []
    labels: list[dict[str, str]] = []
    odd = 0
    for result in _results(answers, name):
        metric = result.get("metric")
        own = {str(k): str(v) for k, v in metric.items()} if isinstance(metric, Mapping) else {}
        samples = result.get("values")
        if not isinstance(samples, list):
            raise InputError(f"{name}: a series has no 'values'; histograms are read through histogram_sum or _count")
        for sample in samples:
            try:
                at, value = float(sample[0]), math.nan if sample[1] is None else float(sample[1])
            except (TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
                raise InputError(f'{name}: {str(sample)[:60]!r} is not a sample [time, "value"]') from error
            odd += not math.isfinite(value)
            times.append(at)
            values.append(value if math.isfinite(value) else math.nan)
            labels.append(own)
    if not times:
        raise InputError(f"{name}: the query found no samples in this range")
    names = [_series(own) for own in labels]
    columns: dict[str, Any] = {"timestamp": times, "value": values, "series": names}
    for label in sorted({label for own in labels for label in own} - {_NAME} - set(columns)):
        columns[label] = [own.get(label, "") for own in labels]
    whole = pd.DataFrame(columns)
    frame = whole.drop_duplicates(["series", "timestamp"], ignore_index=True)
    if len(whole.drop_duplicates(["series", "timestamp", "value"])) > len(frame):
        raise InputError(
            f"{name}: two series have the same labels and other values; keep the answers of each query apart"
        )
    notes = (f"{odd} samples are NaN or infinite and have no value",) if odd else ()
    return Rows(name, frame, "series", notes)


#: Keys of other services' answers, by the service.
_OTHERS = {
    "Datapoints": "CloudWatch",
    "MetricDataResults": "CloudWatch",
    "timeSeries": "Cloud Monitoring",
    "timespan": "Azure Monitor",
    "series": "Datadog",
    "results": "Grafana or InfluxDB",
    "aggregations": "Elasticsearch",
    "target": "Graphite",
}


def _hint(answer: Any) -> str:
    """What another service's answer is, and how it can be read."""
    head = answer[0] if isinstance(answer, list) and answer else answer
    keys = set(head) if isinstance(head, Mapping) else set()
    known = next((name for key, name in _OTHERS.items() if key in keys), None)
    of = "" if known is None else f"; it looks like an answer of {known}"
    return f"{of}; write other data as CSV with a column of times and one of values"


def _whole_answer(answer: Any) -> Any:
    """Return an answer as the API gives it, from its ``data`` alone or from ``promtool``'s list of series."""
    if isinstance(answer, list) and answer and all(isinstance(part, Mapping) and "metric" in part for part in answer):
        kind = "vector" if all("value" in part for part in answer) else "matrix"
        return {"data": {"resultType": kind, "result": answer}}
    if isinstance(answer, Mapping) and "resultType" in answer and "data" not in answer:
        return {"data": answer}
    return answer


def _results(answers: Sequence[Any], name: str) -> Iterator[Mapping[str, Any]]:
    for answer in map(_whole_answer, answers):
        if not isinstance(answer, Mapping) or ("data" not in answer and "error" not in answer):
            raise InputError(f"{name} is not the answer of a Prometheus query_range: it has no 'data'{_hint(answer)}")
        if answer.get("status") == "error" or "data" not in answer:
            raise InputError(f"{name}: Prometheus answered with an error: {str(answer.get('error'))[:200]}")
        data = answer["data"]
        kind = data.get("resultType") if isinstance(data, Mapping) else None
        if kind != "matrix":
            hint = "; use query_range with a start, an end and a step" if kind in ("vector", "scalar") else ""
            raise InputError(f"{name} holds a {kind or 'result of no type'}, not the matrix of a range query{hint}")
        results = data.get("result")
        if not isinstance(results, list) or not all(isinstance(result, Mapping) for result in results):
            raise InputError(f"{name} is not the answer of a Prometheus query_range: 'result' is not a list of series")
        yield from results


def _series(labels: Mapping[str, str]) -> str:
    inner = ", ".join(f'{key}="{value}"' for key, value in sorted(labels.items()) if key != _NAME)
    return f"{labels.get(_NAME, '')}{{{inner}}}" if inner else labels.get(_NAME, "") or "{}"


def query_range(
    url: str, query: str, start: float, end: float, step_seconds: int, *, token: str | None = None
) -> tuple[Rows, tuple[str, ...]]:
    """Ask a Prometheus (or what speaks its API) for a range, and return its rows and the server's warnings.

    Args:
        url: base address, such as ``http://prometheus:9090``; a path prefix is kept.
        query: PromQL.
        start: first instant, epoch seconds; moved back to a whole step, so that samples fall on window boundaries.
        end: last instant, epoch seconds.
        step_seconds: distance between samples.
        token: bearer token; None: no authentication.

    Raises:
        InputError: the address, the range or the query is wrong; the server's reason is in the text.
        ServerUnavailable: no server answers there, or it does not answer like a Prometheus.
    """
    address = urllib.parse.urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise InputError(f"{url} is not the address of a Prometheus, such as http://prometheus:9090")
    if not start < end:
        raise InputError(f"the range is empty: its start ({start:.0f}) is not before its end ({end:.0f})")
    first = math.floor(start / step_seconds) * step_seconds
    points = int((end - first) // step_seconds) + 1
    if points > MAX_TOTAL_POINTS:
        raise InputError(f"{points:,} points per series are more than {MAX_TOTAL_POINTS:,}; use a wider --step")
    answers, warnings = [], []
    for offset in range(0, points, MAX_POINTS):
        low = first + offset * step_seconds
        high = min(low + (MAX_POINTS - 1) * step_seconds, first + (points - 1) * step_seconds)
        asked = {"query": query, "start": str(low), "end": str(high), "step": str(step_seconds)}
        answer = _post(url.rstrip("/") + "/api/v1/query_range", asked, token)
        answers.append(answer)
        found = answer.get("warnings") if isinstance(answer, Mapping) else None
        warnings += [str(text)[:200] for text in found] if isinstance(found, list) else []
    return range_rows(answers, address.hostname), tuple(dict.fromkeys(warnings))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would carry the token to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """As ``HTTPRedirectHandler.redirect_request``: None makes the answer an ``HTTPError``."""


def _post(address: str, form: Mapping[str, str], token: str | None) -> Any:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(address, urllib.parse.urlencode(form).encode(), headers, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=_TIMEOUT_SECONDS) as response:
            body = response.read(MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        raise InputError(f"Prometheus refused the query ({error.code}): {_reason(error)}") from error
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        raise ServerUnavailable(f"no Prometheus answers at {address}: {getattr(error, 'reason', error)}") from error
    if len(body) > MAX_BYTES:
        raise InputError(f"the answer has more than {MAX_BYTES // 2**20} MiB; aggregate in the query, such as sum(…)")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ServerUnavailable(f"{address} did not answer with JSON; is it a Prometheus?") from error


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        body = json.loads(error.read(65_536))
        return str(body["error"])[:300]
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        return str(error.reason)[:200]
