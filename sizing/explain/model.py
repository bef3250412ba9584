"""The parts of an explanation: facts with their sources, tables, charts, steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sizing.errors import InvalidInput
from sizing.wording import dollars

__all__ = ["GIVEN", "Chart", "Explanation", "Fact", "Series", "Step", "Table", "Value"]

#: The source of what the user said.
GIVEN = "given"

Value = float | int | str | bool | None


@dataclass(frozen=True, slots=True)
class Fact:
    """One number (or word) of a step: its unit, and where it is from: given, catalogue, measured, or the formula."""

    name: str
    value: Value
    unit: str
    source: str

    @property
    def text(self) -> str:
        """The value with its unit, as people write it; "unknown" where there is none."""
        if self.value is None:
            return "unknown"
        if self.unit.startswith("$") and isinstance(self.value, int | float) and math.isfinite(self.value):
            # As sentences have it; three digits are enough for cents only.
            amount = dollars(self.value) if abs(self.value) >= 100 else f"${number(self.value)}".replace("$-", "-$")
            return amount + self.unit[1:]
        return f"{number(self.value)} {self.unit}".strip()


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of values under columns; ``chosen`` is the index of the row that the question is about (None: none)."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    source: str
    chosen: int | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """One line, or one layer of stacked bars: y over x."""

    name: str
    x: tuple[float | str, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture of one step. ``kind`` is "line" (numbers over numbers) or "stacked" (layers over named bars).

    ``limits`` are named horizontal lines, ``marks`` named vertical ones.
    """

    kind: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    limits: tuple[tuple[str, float], ...] = ()
    marks: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("line", "stacked"):
            raise InvalidInput(f"no chart is of the kind {self.kind!r}")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a sizing: what it asks, what goes in, what comes out, what follows from it."""

    number: int
    title: str
    question: str
    inputs: tuple[Fact, ...]
    results: tuple[Fact, ...]
    conclusion: str
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """A whole sizing, step by step; ``to_dict`` gives plain JSON types."""

    title: str
    answer: str
    steps: tuple[Step, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation as nested dicts and lists; what is not finite becomes None."""
        return {
            "schema": "tokentide.sizing-explanation.v1",
            "title": self.title,
            "answer": self.answer,
            "steps": [
                {
                    "number": step.number,
                    "title": step.title,
                    "question": step.question,
                    "inputs": [_fact(fact) for fact in step.inputs],
                    "results": [_fact(fact) for fact in step.results],
                    "conclusion": step.conclusion,
                    "tables": [
                        {
                            "title": table.title,
                            "columns": list(table.columns),
                            "rows": [[_finite(value) for value in row] for row in table.rows],
                            "chosen": table.chosen,
                            "source": table.source,
                        }
                        for table in step.tables
                    ],
                }
                for step in self.steps
            ],
        }


def _fact(fact: Fact) -> dict[str, Value]:
    return {"name": fact.name, "value": _finite(fact.value), "unit": fact.unit, "source": fact.source}


def _finite(value: Value) -> Value:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def number(value: Value) -> str:
    """Write a value: three significant digits, thousands apart; "–" where there is none.

    >>> [number(v) for v in (0.012345, 12.0, 1234567.8, 3, True, None, float("inf"))]
    ['0.0123', '12', '1,230,000', '3', 'yes', '–', '∞']
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "∞" if value > 0 else "–"
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:,.{max(digits, 0)}f}".rstrip("0").rstrip(".") if digits > 0 else f"{rounded:,.0f}"
