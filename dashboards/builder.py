"""A small builder of Grafana dashboards in the classic JSON schema, which every Grafana since 8 imports.

Every expression is checked against the metric catalogue when it is built: an unknown metric or label is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pipeline.publish.metric_catalogue import METRICS

__all__ = [
    "DATASOURCE",
    "LEGEND",
    "ONE_POOL",
    "POOL",
    "TOKEN_RATE",
    "Add",
    "DashboardError",
    "Layout",
    "band",
    "dashboard",
    "gauge",
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
#: Matchers of the one pool of a board about one pool.
ONE_POOL = 'model="$model",pool="$pool"'
#: Grafana's own unit for counts per second with a name, as vLLM's boards write it.
TOKEN_RATE = "count:tok/s"
#: Tag that joins the boards.
_TAG = "tokentide"
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


def gauge(
    metric: str,
    legend: str = LEGEND,
    *,
    pools: str = POOL,
    by: str = "",
    matchers: str = "",
    where: str = "",
    most: str = "",
) -> dict[str, Any]:
    """Return a target for a gauge of pools, one series for each pool and value of the labels ``by``.

    ``where`` is a comparison that leaves out values, ``most`` an aggregation such as ``topk(10, …)`` without its
    parentheses: ``topk 10``.

    ``max`` rather than ``sum``: a pool has one controller; two series of it are the same one before and after a move.
    Bounded to the newest scrapes, so that nothing is drawn after the newest one as if it held on.

    Raises:
        DashboardError: the metric or a label is not in the catalogue.
    """
    selector = f"{metric}{{{pools}{',' if matchers else ''}{matchers}}}"
    expression = (
        f"max by (model, pool{by and ', '}{by}) (last_over_time({selector}[$__rate_interval])){where and ' '}{where}"
    )
    if most:
        function, number = most.split()
        expression = f"{function}({number}, {expression})"
    return query(expression, legend)


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
    *,
    stacked: bool = False,
    stepped: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Return lines over time; ``stacked`` areas, ``stepped`` for whole numbers that hold until they change."""
    custom: dict[str, Any] = {"lineWidth": 1, "fillOpacity": 0, "showPoints": "never", "spanNulls": False}
    if stacked:
        custom |= {"fillOpacity": 30, "stacking": {"mode": "normal", "group": "A"}}
    if stepped:
        custom |= {"lineInterpolation": "stepAfter"}
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
                "noValue": "no data",
                "custom": custom,
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
    title: str,
    description: str,
    columns: list[tuple[str, dict[str, Any], str]],
    hide: list[str],
    links: dict[str, tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """Return a table that joins instant queries by their labels.

    ``columns`` are (heading, query, unit); an empty heading hides the value, for a query that brings only labels.
    ``links`` puts a link (title, url) on the column of a label.
    """
    keys = [f"Value #{chr(ord('A') + index)}" for index in range(len(columns))]
    names = {key: heading for key, (heading, _, _) in zip(keys, columns, strict=True) if heading}
    hidden = ["Time", *hide, *(key for key in keys if key not in names)]
    if len(columns) == 1:  # a single query has no letter
        names |= {"Value": columns[0][0]} if columns[0][0] else {}
        hidden += [] if columns[0][0] else ["Value"]
    overrides: list[dict[str, Any]] = [
        {"matcher": {"id": "byName", "options": heading}, "properties": [{"id": "unit", "value": unit}]}
        for heading, _, unit in columns
        if heading and unit != "none"
    ]
    overrides += [
        {
            "matcher": {"id": "byName", "options": label},
            "properties": [{"id": "links", "value": [{"title": text, "url": url}]}],
        }
        for label, (text, url) in (links or {}).items()
    ]
    return _panel(
        "table",
        title,
        description,
        [target | {"instant": True, "format": "table"} for _, target, _ in columns],
        transformations=[
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": dict.fromkeys(hidden, True), "renameByName": names}},
        ],
        fieldConfig={
            "defaults": {"noValue": "–", "decimals": 1, "custom": {"align": "auto", "filterable": True}},
            "overrides": overrides,
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


def _variable(name: str, label: str, metric: str, matchers: str, *, several: bool) -> dict[str, Any]:
    if metric not in METRICS:
        raise DashboardError(f"{metric} is not in the metric catalogue: variable {name}")
    text = f"label_values({metric}{matchers}, {name})"
    every: dict[str, Any] = {
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": text,
        "query": {"query": text, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": several,
        **(every if several else {"includeAll": False, "current": {}}),
    }


def dashboard(
    uid: str,
    title: str,
    description: str,
    layout: Layout,
    annotations: list[dict[str, Any]],
    *,
    one_pool: bool = False,
) -> dict[str, Any]:
    """Return the whole dashboard, with the variables datasource, model and pool and links to the other boards.

    ``one_pool``: the board is about one pool; its time range reaches an hour ahead, for forecasts.
    """
    known = "tokentide_window_end_timestamp_seconds"
    pool_matchers = '{model="$model"}' if one_pool else '{model=~"$model"}'
    return {
        "uid": uid,
        "id": None,
        "title": title,
        "description": description,
        "tags": [_TAG, "llm", "capacity"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now+1h" if one_pool else "now"},
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
                _variable("model", "Model", known, "", several=not one_pool),
                _variable("pool", "Pool", known, pool_matchers, several=not one_pool),
            ]
        },
        "panels": layout.panels,
        "links": [
            {
                "type": "dashboards",
                "title": "Tokentide",
                "tags": [_TAG],
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "icon": "dashboard",
            }
        ],
    }
