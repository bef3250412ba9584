"""The text of a report file as parsed content: JSON, one JSON document per line, YAML, or a two-part metrics CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from sizing.calibration.loadtests.unreadable import unreadable_text
from sizing.errors import InvalidInput

__all__ = ["parse_report"]

#: A line is one run: more lines than this are single requests.
_MOST_LINES = 10_000
#: Levels of a YAML document; reports have fewer than twenty.
_MOST_LEVELS = 200


def parse_report(text: str, name: str = "") -> Any:
    """Return the content of a report; a file of several JSON documents, one a line, is a list of them.

    ``name`` of the file decides for YAML (``.yaml``, ``.yml``) and CSV; JSON is recognised by itself.

    Raises:
        InvalidInput: it is none of the formats; the text says what is wrong where.
    """
    known = unreadable_text(text)
    if known is not None:
        raise InvalidInput(known)
    stem = name.lower().removesuffix(".gz")
    if stem.endswith(".csv"):
        return _metrics_csv(text)
    if stem.endswith((".yaml", ".yml")):
        return _yaml(text)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise InvalidInput("nested too deeply") from error
    except ValueError as error:
        found = _lines(text)
        if found is not None:
            return found
        if text.lstrip().startswith("Metric,"):
            return _metrics_csv(text)
        if re.match(r"(---|version:|benchmarks:|metadata:)", text):
            return _yaml(text)
        raise InvalidInput(f"not JSON: {error}") from error


def _lines(text: str) -> list[Any] | None:
    """Return the documents of a file with one JSON document per line, None where it is none."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2:
        return None
    try:
        found = [json.loads(line) for line in lines[: _MOST_LINES + 1]]
    except (ValueError, RecursionError):
        return None
    if len(found) > _MOST_LINES:
        raise InvalidInput(
            f"{len(lines):,} JSON documents, one a line, are single requests, not runs; import the tool's summary"
        )
    return found


def _yaml(text: str) -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        # libyaml's binding recurses in C for each level: what is nested too deeply would end the process.
        for event in yaml.parse(text, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MOST_LEVELS:
                raise InvalidInput("nested too deeply")
        return yaml.load(text, Loader=loader)
    except RecursionError as error:
        raise InvalidInput("nested too deeply") from error
    except yaml.YAMLError as error:
        raise InvalidInput(f"not YAML: {' '.join(str(error).split())[:200]}") from error


def _metrics_csv(text: str) -> Any:
    """Return aiperf's and genai-perf's CSV as their JSON: ``{metric: {"unit": …, "avg": …, "p50": …}}``.

    The file has a table of metrics with statistics and, below a blank line, one of single values.
    """
    found: dict[str, dict[str, Any]] = {}
    header: list[str] = []
    separator = ";" if text.lstrip().lower().startswith("metric;") else ","
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=separator, strict=True))
        read = _number_style([cell for row in rows for cell in row[1:]])
        for row in rows:
            if not row or not any(cell.strip() for cell in row):
                header = []
                continue
            if not header:
                header = [cell.strip().lower() for cell in row]
                continue
            metric = re.fullmatch(r"(.+?)\s*(?:\(([^()]*)\))?", row[0].strip())
            if header[0] != "metric" or metric is None:
                break
            statistics = {
                "avg" if key == "value" else key: read(cell) for key, cell in zip(header[1:], row[1:], strict=False)
            }
            key = re.sub(r"[^a-z0-9]+", "_", metric[1].lower()).strip("_")
            found[key] = {"unit": metric[2] or "", **statistics}
    except csv.Error as error:
        raise InvalidInput(f"not CSV: {error}") from error
    if "request_latency" in found:
        return found
    first = text.lstrip().partition("\n")[0][:200]
    if "Run Id" in first or "Benchmark" in first:
        raise InvalidInput("this is GuideLLM's CSV; export the JSON (--outputs json) and import benchmarks.json")
    raise InvalidInput("not a CSV of aiperf or genai-perf: it has no 'Request Latency' in a column 'Metric'")


#: 1,234.56 and 1.234,56: what can be meant by one of them only.
_POINT = re.compile(r"\d+\.(\d{1,2}|\d{4,})|\d{1,3}(,\d{3})+\.\d*|\d{1,3}(,\d{3}){2,}")
_COMMA = re.compile(r"\d+,(\d{1,2}|\d{4,})|\d{1,3}(\.\d{3})+,\d*|\d{1,3}(\.\d{3}){2,}")


def _number_style(cells: Sequence[str]) -> Callable[[str], float | None]:
    """Return what reads the numbers of a file: with decimal points, or with decimal commas where its numbers say so.

    Raises:
        InvalidInput: it has both.
    """
    point = next((cell.strip() for cell in cells if _POINT.fullmatch(cell.strip())), None)
    comma = next((cell.strip() for cell in cells if _COMMA.fullmatch(cell.strip())), None)
    if point is not None and comma is not None:
        raise InvalidInput(f"{point[:40]!r} has a decimal point and {comma[:40]!r} a decimal comma: export it again")
    thousands, decimal = (".", ",") if comma is not None else (",", ".")

    def read(cell: str) -> float | None:
        try:
            return float(cell.replace(thousands, "").replace(decimal, "."))
        except ValueError:
            return None

    return read
