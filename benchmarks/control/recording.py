"""Closed windows of the demo's fleet as plain data, which any tree can read."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pipeline.demo.fleet import history
from pipeline.demo.scenario import Scenario, scenario
from pipeline.windows.types import ClosedWindow

__all__ = ["record"]

#: Midnight UTC of the day after the recorded windows; any instant does, and this one is always the same.
_LIVE_START = 1_800_000_000 // 86_400 * 86_400
_GRAIN_SECONDS = 60


def record(steps: int, *, tenants: bool, seed: int = 7) -> dict[str, Any]:
    """Return ``steps`` minutes of all pools of the demo, its settings, and with ``tenants`` who sent what.

    History does not keep who sent what, so requests are dealt out by the scenario's shares, seeded.
    """
    fleet = scenario("demo", float(_LIVE_START), seed)
    draw = np.random.default_rng(seed)
    found: list[tuple[int, list[dict[str, Any]]]] = []
    for chunk in history(fleet, _LIVE_START - steps * _GRAIN_SECONDS, _LIVE_START):
        found.extend(
            (step.as_of, [_row(fleet, window, draw if tenants else None) for window in step.windows])
            for step in chunk.steps(_GRAIN_SECONDS)
        )
    settings: dict[str, Any] = {}
    if tenants:
        settings = {"windows": {"dimensions": ["tenant"]}, "forecast": {"tenant_series": 4}}
    pools = [pool.model_dump(mode="json", exclude_defaults=True) for pool in fleet.pool_settings()]
    return {"settings": settings, "pools": pools, "steps": found}


def _row(fleet: Scenario, window: ClosedWindow, draw: np.random.Generator | None) -> dict[str, Any]:
    row = {field.name: getattr(window, field.name) for field in dataclasses.fields(window)}
    row["breakdown"], row["service"], row["fleet"] = (), None, None  # the compared tree has no such classes
    spec = next(spec for spec in fleet.pools if spec.key == window.key)
    if draw is None or not spec.tenants or not window.requests:
        return row
    shares = np.array([share for _, share in spec.tenants])
    counts = draw.multinomial(window.requests, shares / shares.sum()).tolist()
    parts = [
        (name, count, *(round(total * count / window.requests) for total in _tokens(window)))
        for (name, _), count in zip(spec.tenants, counts, strict=True)
        if count
    ]
    row["breakdown"] = (("tenant", len(parts), sorted(parts, key=lambda part: (-part[1], part[0]))),)
    return row


def _tokens(window: ClosedWindow) -> tuple[int, int, int]:
    return window.input_tokens, window.cached_input_tokens, window.output_tokens
