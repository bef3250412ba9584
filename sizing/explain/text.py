"""An explanation as plain text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from sizing.explain.model import Explanation, Fact, Step, Table, Value, number

__all__ = ["columns_text", "render_text"]

_WIDTH = 112


def render_text(explanation: Explanation) -> str:
    """Write an explanation as text; sources are numbered and listed at the end."""
    sources: dict[str, int] = {}
    lines = [explanation.title, "", *_wrapped(explanation.answer, "")]
    for step in explanation.steps:
        lines += ["", *_step(step, sources)]
    lines += ["", "Sources"]
    for source, index in sources.items():
        lines += _wrapped(source, f"  [{index}] ")
    return "\n".join(lines)


def _step(step: Step, sources: dict[str, int]) -> list[str]:
    lines = [f"{step.number}. {step.title}: {step.question}"]
    width = max((len(fact.name) for fact in (*step.inputs, *step.results)), default=0)
    for sign, facts in (("in ", step.inputs), ("out", step.results)):
        lines += [_fact(sign, fact, width, sources) for fact in facts]
    for table in step.tables:
        lines += ["", *_table(table, sources)]
    return [*lines, *_wrapped(step.conclusion, "   → ")]


def _reference(source: str, sources: dict[str, int]) -> int:
    return sources.setdefault(source, len(sources) + 1)


def _fact(sign: str, fact: Fact, width: int, sources: dict[str, int]) -> str:
    return f"   {sign} {fact.name:<{width}}  {fact.text} [{_reference(fact.source, sources)}]"


def _table(table: Table, sources: dict[str, int]) -> list[str]:
    lines = [f"   {table.title} [{_reference(table.source, sources)}]"]
    return lines + [f"   {line}" for line in columns_text(table.columns, table.rows, table.chosen)]


def columns_text(columns: Sequence[str], rows: Sequence[Sequence[Value]], chosen: int | None = None) -> list[str]:
    """Return a table as lines of aligned text, numbers to the right, the chosen row marked.

    >>> columns_text(("GPU", "req/s"), (("h100", 12.345), ("l4", None)), 0)
    ['  GPU   req/s', '» h100   12.3', '  l4        –']
    """
    cells = [[number(value) for value in row] for row in rows]
    widths = [max(len(head), *(len(row[i]) for row in cells), 0) for i, head in enumerate(columns)]
    right = [all(isinstance(row[i], int | float) or row[i] is None for row in rows) for i in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        parts = (f"{cell:>{w}}" if r else f"{cell:<{w}}" for cell, w, r in zip(row, widths, right, strict=True))
        return "  ".join(parts).rstrip()

    return ["  " + line(columns)] + [f"{'»' if i == chosen else ' '} {line(row)}" for i, row in enumerate(cells)]


def _wrapped(text: str, prefix: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=prefix, subsequent_indent=" " * len(prefix), break_long_words=False
    )
