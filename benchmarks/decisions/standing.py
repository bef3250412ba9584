"""Where Tokentide stands against the rules in the cells that were run: what is counted, and in which cells it costs more.

Costs are compared at equal attainment: with rules at their documented defaults that serve at least as many requests
within the SLO, less 0.1 points. What Tokentide serves beyond them is not credited to it. Where no rule serves as many,
nothing can be compared, and the cell counts for nobody.

python -m benchmarks.decisions.standing --results benchmarks/decisions/results.jsonl
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Attainment within 0.1 points and GPU-hours within 3 % are the same, as in the verdict of ``tokentide evaluate``.
SAME_ATTAINMENT, SAME_HOURS = 0.001, 1.03

OURS = "tokentide"
#: What no operator can follow: the future is known to it.
_ORACLE = "oracle"
#: Fixed fleets, sized with hindsight: rules, but neither reactive nor by a forecast.
_HINDSIGHT = ("static-peak", "static-mean")


@dataclass(frozen=True, slots=True)
class Standing:
    """One cell. Hours are GPU-hours, shares 0 to 1; the rivals are the cheapest that attain as much, None: none does.

    ``rule`` is the cheapest of all, fixed fleets of hindsight among them; ``rival`` the cheapest without these.
    ``misses`` tells whether fewer requests than the SLO's percentile were within it. ``more`` is the cheapest rival
    that attains the percentile where Tokentide misses it.
    """

    cell: str
    attainment: float
    hours: float
    misses: bool
    rival: tuple[str, float, float] | None
    rule: tuple[str, float, float] | None
    more: tuple[str, float, float] | None

    @property
    def over_rival(self) -> float | None:
        """GPU-hours over those of the cheapest reactive or point-forecast rival, as a share of them."""
        return None if self.rival is None else self.hours / self.rival[2] - 1.0

    @property
    def over_rule(self) -> float | None:
        """GPU-hours over those of the cheapest rule, as a share of them."""
        return None if self.rule is None else self.hours / self.rule[2] - 1.0


def standing(line: dict[str, Any]) -> Standing:
    """Return where Tokentide stands in the cell of one line of the results."""
    policies = {policy["policy"]: policy for policy in line["policies"]}
    ours = policies[OURS]
    asked = line["pool"]["slo_percentile"]

    def cheapest(least: float, left_out: Sequence[str]) -> tuple[str, float, float] | None:
        found = [
            (name, policy["slo_attainment"], policy["gpu_hours"])
            for name, policy in policies.items()
            if name not in (OURS, _ORACLE, *left_out) and policy["slo_attainment"] >= least
        ]
        return min(found, key=lambda rule: rule[2], default=None)

    equal = ours["slo_attainment"] - SAME_ATTAINMENT
    misses = ours["slo_attainment"] < asked
    return Standing(
        cell=line["cell"],
        attainment=ours["slo_attainment"],
        hours=ours["gpu_hours"],
        misses=misses,
        rival=cheapest(equal, _HINDSIGHT),
        rule=cheapest(equal, ()),
        more=cheapest(asked, _HINDSIGHT) if misses else None,
    )


def standing_text(lines: Sequence[dict[str, Any]]) -> str:
    """Return the section of the page: the counts, and a row for each cell that is not won."""
    found = [standing(line) for line in lines]
    parts = ["## Standing at equal attainment\n", f"{_counts(found)}\n"]
    behind = [s for s in found if (s.over_rival or 0.0) > SAME_HOURS - 1 or (s.over_rule or 0.0) > SAME_HOURS - 1]
    parts += ["Cells in which a rule that attains as much has more than 3 % fewer GPU-hours:\n"] if behind else []
    if behind:
        parts += ["| cell | Tokentide | reactive or point forecast | more by | any rule | more by |", "|---|---|---|---|---|---|"]
        parts += [
            f"| {s.cell} | {_told((OURS, s.attainment, s.hours))} | {_told(s.rival)} | {_share(s.over_rival)} | "
            f"{_told(s.rule)} | {_share(s.over_rule)} |"
            for s in behind
        ]
    short = [s for s in found if s.more is not None]
    if short:
        parts += [
            "\nCells in which Tokentide misses the percentile that the SLO asks for, and a reactive or point-forecast "
            "rival attains it:\n",
            "| cell | Tokentide | the cheapest that attains it | more by |",
            "|---|---|---|---|",
        ]
        parts += [
            f"| {s.cell} | {_told((OURS, s.attainment, s.hours))} | {_told(s.more)} | {s.more[2] / s.hours - 1.0:+.0%} |"
            for s in short
            if s.more is not None
        ]
    return "\n".join(parts) + "\n"


def _counts(found: Sequence[Standing]) -> str:
    """Return the counts in sentences; every cell is in exactly one of the first three."""

    def among(cells: Sequence[Standing], over: Callable[[Standing], float | None]) -> tuple[int, int, int]:
        told = [over(s) for s in cells]
        none = sum(value is None for value in told)
        fewer = sum(value is not None and value < 0.0 for value in told)
        near = sum(value is not None and value <= SAME_HOURS - 1 for value in told)
        return fewer, near, none

    fewer, near, none = among(found, lambda s: s.over_rival)
    compared = len(found) - none
    _, rule_near, rule_none = among(found, lambda s: s.over_rule)
    kept = [s for s in found if not s.misses]
    kept_fewer, _, kept_none = among(kept, lambda s: s.over_rival)
    return (
        f"Fewer GPU-hours than every reactive and point-forecast rival at equal attainment in {fewer} of {compared} cells, "
        f"at most 3 % more in {near}; in {none} further cells no such rival attains as much. In {len(kept)} of all "
        f"{len(found)} cells Tokentide attains the percentile that the SLO asks for; of these it has fewer GPU-hours "
        f"than every such rival in {kept_fewer} of {len(kept) - kept_none}, and in {kept_none} none attains as much. Of all rules, "
        f"fixed fleets of hindsight included, the best that attains as much is met within 3 % in {rule_near} of "
        f"{len(found) - rule_none} cells. A cell with fewer GPU-hours than all and the percentile missed is no success: "
        "the second table has these."
    )


def _told(rule: tuple[str, float, float] | None) -> str:
    if rule is None:
        return "none"
    name, attainment, hours = rule
    figures = f"{attainment:.1%} with {hours:.2f}"
    return figures if name == OURS else f"{name}: {figures}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:+.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/decisions/results.jsonl"))
    lines = parser.parse_args().results.read_text(encoding="utf-8").splitlines()
    print(standing_text([json.loads(line) for line in lines]))


if __name__ == "__main__":
    main()
