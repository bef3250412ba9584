"""Where Tokentide stands against the rules in the cells that were run: counts, and the cells in which it costs more.

Costs are compared at equal attainment: with rules at their documented defaults that serve at least as many requests
within the SLO, less 0.1 points. What they serve beyond Tokentide is not credited to them, nor what it serves beyond the
SLO's percentile held against it; cells that the percentile alone would decide otherwise are therefore listed, too. A
cell in which every policy, the oracle included, pays for the same fleet decides nothing and is counted nowhere. Where
the smallest fleet that the pool allows is enough and a rival runs it, too, nobody can have fewer: counted apart.

python -m benchmarks.decisions.standing --results benchmarks/decisions/results.jsonl
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Figures", "Standing", "standing", "standing_text"]

#: Attainment within 0.1 points and GPU-hours within 3 % are the same, as in the verdict of ``tokentide evaluate``.
_SAME_ATTAINMENT, _SAME_HOURS = 0.001, 0.03
#: Between rules at their defaults there is seldom one that attains as much to the tenth of a point.
_NEAR_ATTAINMENT = 0.01
_OURS = "tokentide"
#: Knows what is to come: no rule that anybody can follow.
_ORACLE = "oracle"
#: Fixed fleets, sized with hindsight: rules, but neither reactive nor by a forecast.
_HINDSIGHT = ("static-peak", "static-mean")
#: Replica-hours this close to those of the smallest fleet are that fleet: the last requests end when they end.
_SMALLEST_FLEET = 1.001


class Figures(NamedTuple):
    """What one policy comes to: the share of requests within the SLO (0 to 1), and GPU-hours."""

    policy: str
    attainment: float
    gpu_hours: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Tokentide in one cell, beside the cheapest that attain as much; None: none does.

    ``rival`` is the cheapest reactive or point-forecast rule, ``rule`` the cheapest of all, fixed fleets of hindsight
    included. ``misses``: fewer requests than the SLO's percentile were within it. ``attains`` is the cheapest reactive
    or point-forecast rule that attains the percentile. ``smallest``: it runs the smallest fleet that the pool allows.
    """

    cell: str
    ours: Figures
    misses: bool
    rival: Figures | None
    rule: Figures | None
    attains: Figures | None
    smallest: bool

    @property
    def tied(self) -> bool:
        """Whether ``rival`` runs the smallest fleet, too, so that no policy can have fewer GPU-hours."""
        over = self.over_rival
        return self.smallest and over is not None and abs(over) < _SMALLEST_FLEET - 1.0

    @property
    def over_rival(self) -> float | None:
        """GPU-hours beyond those of ``rival``, as a share of them; None: there is none."""
        return _beyond(self.ours, self.rival)

    @property
    def over_rule(self) -> float | None:
        """GPU-hours beyond those of ``rule``, as a share of them; None: there is none."""
        return _beyond(self.ours, self.rule)


def standing(line: dict[str, Any]) -> Standing | None:
    """Return where Tokentide stands in the cell of one line of the results; None: all pay for the same fleet."""
    found = [Figures(p["policy"], p["slo_attainment"], p["gpu_hours"]) for p in line["policies"]]
    if len({round(figures.gpu_hours, 6) for figures in found}) == 1:
        return None
    ours = next(figures for figures in found if figures.policy == _OURS)
    rules = [figures for figures in found if figures.policy not in (_OURS, _ORACLE)]
    rivals = [figures for figures in rules if figures.policy not in _HINDSIGHT]
    equal, asked = ours.attainment - _SAME_ATTAINMENT, line["pool"]["slo_percentile"]
    return Standing(
        cell=line["cell"],
        ours=ours,
        misses=ours.attainment < asked,
        rival=_cheapest(rivals, equal),
        rule=_cheapest(rules, equal),
        attains=_cheapest(rivals, asked),
        smallest=_is_smallest(line),
    )


def _is_smallest(line: dict[str, Any]) -> bool:
    """Whether Tokentide has paid for no more than the pool's fewest replicas, over what is scored."""
    ours = next(p for p in line["policies"] if p["policy"] == _OURS)
    hours = (line["trace"]["seconds"] - line["score_from_seconds"]) / 3600
    return bool(ours["replica_hours"] <= _SMALLEST_FLEET * line["pool"]["min_replicas"] * hours)


def standing_text(lines: Sequence[dict[str, Any]]) -> str:
    """Return the section of the page: the counts, and a row for each cell that is not won."""
    all_cells = [standing(line) for line in lines]
    found = [cell for cell in all_cells if cell is not None]
    parts = ["## Standing at equal attainment\n", _counts(found, len(all_cells) - len(found)) + "\n"]
    behind = [s for s in found if any(over is not None and over > _SAME_HOURS for over in (s.over_rival, s.over_rule))]
    if behind:
        parts += [
            "More than 3 % more GPU-hours than the cheapest rule that attains as much:\n",
            "| cell | Tokentide | cheapest reactive or point-forecast rule | more by | cheapest of all | more by |",
            "|---|---|---|---|---|---|",
        ]
        parts += [
            f"| {s.cell} | {_told(s.ours)} | {_told(s.rival)} | {_share(s.over_rival)} | {_told(s.rule)} | "
            f"{_share(s.over_rule)} |"
            for s in behind
        ]
        parts.append("")
    parts += _at_percentile(
        "The SLO's percentile missed, where a reactive or point-forecast rule attains it:",
        [s for s in found if s.misses],
    )
    parts += _at_percentile(
        "The SLO's percentile attained, as by a reactive or point-forecast rule with over 3 % fewer GPU-hours:",
        [s for s in found if not s.misses and (_beyond(s.ours, s.attains) or 0.0) > _SAME_HOURS],
    )
    return "\n".join(parts)


def _at_percentile(title: str, found: Sequence[Standing]) -> list[str]:
    """Return a table of Tokentide beside the cheapest that attains the percentile; nothing where none does."""
    rows = [
        f"| {s.cell} | {_told(s.ours)} | {_told(s.attains)} | {_share(s.attains.gpu_hours / s.ours.gpu_hours - 1)} |"
        for s in found
        if s.attains is not None
    ]
    if not rows:
        return []
    return [
        f"{title}\n",
        "| cell | Tokentide | cheapest that attains it | which costs |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def _counts(found: Sequence[Standing], same: int) -> str:
    tied = sum(s.tied for s in found)
    alone = sum(s.rival is None for s in found)
    compared = [s.over_rival for s in found if s.over_rival is not None and not s.tied]
    by_rule = [s.over_rule for s in found if s.over_rule is not None]
    won = [s for s in found if s.rival is not None and not s.tied and (s.over_rival or 0.0) < 0.0]
    near = sum(s.rival is not None and s.rival.attainment - s.ours.attainment <= _NEAR_ATTAINMENT for s in won)
    kept = [s for s in found if not s.misses]
    kept_compared = [s.over_rival for s in kept if s.over_rival is not None and not s.tied]
    return (
        f"Fewer GPU-hours than every reactive and point-forecast rival at equal attainment in {_fewer(compared)} of "
        f"{len(compared)} cells, in {near} of which the cheapest such rival attains at most one point more; within 3 % "
        f"of the cheapest, or better, in {_within(compared)}. Of the {len(kept)} cells in which Tokentide attains the "
        f"percentile of the SLO it is {_fewer(kept_compared)} of {len(kept_compared)}, and {_within(kept_compared)}. "
        "With fixed fleets of hindsight among the rules it is within 3 % of the cheapest in "
        f"{_within(by_rule)} of {len(by_rule)}. No rival attains as much in {alone} more; in {tied} "
        "more the smallest fleet that the pool allows is enough and a rival runs it, too. Left out, as every policy "
        f"pays for the same fleet: {same}. Rules have their defaults and attain more or less than "
        "Tokentide: those that attain more than 0.1 points less are not compared, however cheap."
    )


def _cheapest(found: Sequence[Figures], least: float) -> Figures | None:
    return min((f for f in found if f.attainment >= least), key=lambda f: f.gpu_hours, default=None)


def _beyond(ours: Figures, rule: Figures | None) -> float | None:
    return None if rule is None else ours.gpu_hours / rule.gpu_hours - 1.0


def _fewer(shares: Sequence[float]) -> int:
    return sum(share < 0.0 for share in shares)


def _within(shares: Sequence[float]) -> int:
    return sum(share <= _SAME_HOURS for share in shares)


def _told(figures: Figures | None) -> str:
    if figures is None:
        return "none"
    text = f"{figures.attainment:.1%} with {figures.gpu_hours:.2f}"
    return text if figures.policy == _OURS else f"{figures.policy}: {text}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:+.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/decisions/results.jsonl"))
    lines = parser.parse_args().results.read_text(encoding="utf-8").splitlines()
    print(standing_text([json.loads(line) for line in lines]))


if __name__ == "__main__":
    main()
