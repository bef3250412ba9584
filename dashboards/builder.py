"""A small builder of Grafana dashboards in the classic JSON schema, which every Grafana since 8 imports.

Every expression is checked against the metric catalogue when it is built: an unknown metric or label is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pipeline.publish.catalogue import METRICS

__all__ = [
    "DATASOURCE",
    "LEGEND",
    "POOL",
    "Add",
    "DashboardError",
    "Layout",
    "band",
    "dashboard",
    "query",
    "row",
    "series",
    "stat",
    "state_timeline",
    "table",
]

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
#: Matchers of the pools that were picked, and the legend of one pool.
POOL = 'model=~"$model",pool=~"$pool"'
LEGEND = "{{model}} / {{pool}}"
#: Places a panel: (panel, width, height) in Grafana's grid.
Add = Callable[[dict[str, Any], int, int], None]
#: Labels that Prometheus or Grafana adds.
COMMON_LABELS = {"instance", "job"}

_SELECTOR = re.compile(r"\b(tokentide_[a-z0-9_]+)\s*(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*\"")


class DashboardError(Exception):
    """An expression names a metric or a label that the catalogue does not have."""


def query(expression: str, legend: str = "", **options: Any) -> dict[str, Any]:
    """Return a target; ``instant=True`` and ``format="table"`` are for tables.

    Raises:
        DashboardError: a metric or label is not in the catalogue.
    """
    for name, matchers in _SELECTOR.findall(expression):
        metric = METRICS.get(name)
        if metric is None:
            raise DashboardError(f"{name} is not in the metric catalogue: {expression}")
        unknown = set(_MATCHER.findall(matchers)) - set(metric.labels) - COMMON_LABELS
        if unknown:
            raise DashboardError(f"{name} has no label {', '.join(sorted(unknown))}: {expression}")
    return {"datasource": DATASOURCE, "expr": expression, "legendFormat": legend or "__auto", **options}


class Layout:
    """Places panels from left to right on Grafana's 24 columns, and numbers them."""

    def __init__(self) -> None:
        self.panels: list[dict[str, Any]] = []
        self._x = self._y = self._height = 0

    def add(self, panel: dict[str, Any], width: int, height: int) -> None:
        """Append ``panel``, on a new line when it does not fit on this one."""
        if self._x + width > 24:
            self._x, self._y, self._height = 0, self._y + self._height, 0
        position = {"x": self._x, "y": self._y, "w": width, "h": height}
        targets = panel.get("targets", [])
        named = [{**target, "refId": chr(ord("A") + index)} for index, target in enumerate(targets)]
        extra = {"targets": named} if targets else {}
        self.panels.append({"id": len(self.panels) + 1, "gridPos": position, **panel, **extra})
        self._x += width
        self._height = max(self._height, height)


def _panel(kind: str, title: str, description: str, targets: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": targets,
        **more,
    }


def row(title: str, **more: Any) -> dict[str, Any]:
    """Return a heading; with ``repeat`` it and the panels below it come once for each value of that variable."""
    return {"type": "row", "title": title, "collapsed": False, "panels": [], **more}


def stat(
    title: str,
    description: str,
    expression: str,
    unit: str = "short",
    warn: float | None = None,
    bad: float | None = None,
) -> dict[str, Any]:
    """Return one big number, amber from ``warn`` and red from ``bad``; no data says so."""
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    steps += [{"color": colour, "value": at} for colour, at in (("orange", warn), ("red", bad)) if at is not None]
    return _panel(
        "stat",
        title,
        description,
        [query(expression, instant=True)],
        fieldConfig={
            "defaults": {
                "unit": unit,
                "noValue": "no data",
                "color": {"mode": "thresholds"},
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        options={
            "colorMode": "value",
            "graphMode": "none",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    )


def series(
    title: str,
    description: str,
    targets: list[dict[str, Any]],
    unit: str = "short",
    overrides: list[dict[str, Any]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return lines over time."""
    return _panel(
        "timeseries",
        title,
        description,
        targets,
        fieldConfig={
            "defaults": {
                "unit": unit,
                "min": 0,
                "color": {"mode": "palette-classic"},
                "custom": {"lineWidth": 1, "fillOpacity": 0, "showPoints": "never", "spanNulls": False},
            },
            "overrides": overrides or [],
        },
        options={
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        **more,
    )


def band(upper: str, lower: str, colour: str) -> list[dict[str, Any]]:
    """Return overrides that fill between the series with the legends ``upper`` and ``lower``."""
    hidden = [
        {"id": "custom.lineWidth", "value": 0},
        {"id": "color", "value": {"mode": "fixed", "fixedColor": colour}},
    ]
    return [
        {"matcher": {"id": "byName", "options": lower}, "properties": hidden},
        {
            "matcher": {"id": "byName", "options": upper},
            "properties": [
                *hidden,
                {"id": "custom.fillBelowTo", "value": lower},
                {"id": "custom.fillOpacity", "value": 18},
            ],
        },
    ]


def table(
    title: str, description: str, columns: list[tuple[str, dict[str, Any], str]], hide: list[str]
) -> dict[str, Any]:
    """Return a table that joins instant queries by their labels; ``columns`` are (heading, query, unit)."""
    names = {f"Value #{chr(ord('A') + index)}": heading for index, (heading, _, _) in enumerate(columns)}
    return _panel(
        "table",
        title,
        description,
        [target | {"instant": True, "format": "table"} for _, target, _ in columns],
        transformations=[
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {"excludeByName": dict.fromkeys(["Time", *hide], True), "renameByName": names},
            },
        ],
        fieldConfig={
            "defaults": {"noValue": "–", "custom": {"align": "auto"}},
            "overrides": [
                {
                    "matcher": {"id": "byName", "options": heading},
                    "properties": [{"id": "unit", "value": unit}, {"id": "decimals", "value": 1}],
                }
                for heading, _, unit in columns
                if unit != "none"
            ],
        },
        options={"showHeader": True, "cellHeight": "sm"},
    )


def state_timeline(title: str, description: str, targets: list[dict[str, Any]]) -> dict[str, Any]:
    """Return bars over time: 0 grey, 1 orange."""
    return _panel(
        "state-timeline",
        title,
        description,
        targets,
        fieldConfig={
            "defaults": {
                "color": {"mode": "thresholds"},
                "custom": {"fillOpacity": 70, "lineWidth": 0},
                "mappings": [
                    {"type": "value", "options": {"0": {"text": "no"}, "1": {"text": "yes"}}},
                ],
                "thresholds": {
                    "mode": "absolute",
                    "steps": [{"color": "transparent", "value": None}, {"color": "orange", "value": 1}],
                },
            },
            "overrides": [],
        },
        options={"mergeValues": True, "showValue": "never", "legend": {"showLegend": False}},
    )


def _variable(name: str, label: str, metric: str, matchers: str) -> dict[str, Any]:
    if metric not in METRICS:
        raise DashboardError(f"{metric} is not in the metric catalogue: variable {name}")
    text = f"label_values({metric}{matchers}, {name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": text,
        "query": {"query": text, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def dashboard(
    uid: str, title: str, description: str, layout: Layout, annotations: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the whole dashboard, with the variables datasource, model and pool."""
    return {
        "uid": uid,
        "id": None,
        "title": title,
        "description": description,
        "tags": ["tokentide", "llm", "capacity"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now+1h"},
        "annotations": {"list": annotations},
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Data source",
                    "type": "datasource",
                    "query": "prometheus",
                    "refresh": 1,
                    "current": {},
                },
                _variable("model", "Model", "tokentide_window_end_timestamp_seconds", ""),
                _variable("pool", "Pool", "tokentide_window_end_timestamp_seconds", '{model=~"$model"}'),
            ]
        },
        "panels": layout.panels,
        "links": [],
    }
