"""An explanation as one HTML page that needs nothing else: no script, no network, charts as inline SVG."""

from __future__ import annotations

import re
from html import escape

from sizing.explain.model import Explanation, Fact, Step, Table, Value, number
from sizing.explain.svg import render_svg

__all__ = ["render_html"]

_STYLE = """
:root { --ink: #1b2733; --soft: #5b6b7a; --line: #d9e0e6; --back: #f6f8fa; --mark: #fff6d6; --blue: #1f6feb;
  --page: #fff; color-scheme: light dark }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dbe3ec; --soft: #9aa8b7; --line: #2a3744; --back: #18212b; --mark: #3a2f12; --blue: #62a8ff;
    --page: #10161d } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 82rem; padding: 1.5rem; color: var(--ink); background: var(--page);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: break-word }
p { max-width: 64rem }
h1 { font-size: 1.5rem; margin: 0 0 .5rem } h2 { font-size: 1.15rem; margin: 0 }
h3 { font-size: .95rem; margin: 1rem 0 .3rem }
.answer { background: var(--back); border-left: 4px solid var(--blue); padding: .7rem 1rem; margin: 0 0 1rem }
nav { font-size: .85rem; margin-bottom: 1rem } nav a { color: var(--blue); margin-right: .8rem; white-space: nowrap }
section { border-top: 1px solid var(--line); padding: 1.2rem 0 }
.question { color: var(--soft); margin: 0 0 .6rem }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(27rem, 100%), 1fr)); gap: 0 2rem }
table { border-collapse: collapse; width: 100%; font-size: .88rem }
.scroll { overflow-x: auto }
td, th { text-align: left; padding: .18rem 1rem .18rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { font-weight: 600; vertical-align: bottom }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
th.number { white-space: normal }
tr.chosen { background: var(--mark) }
sup a { color: var(--soft); text-decoration: none } .conclusion { font-weight: 600; margin: .8rem 0 0 }
figure { margin: .8rem 0 } svg { max-width: 100%; height: auto } ol { color: var(--soft); font-size: .85rem }
"""


def render_html(explanation: Explanation) -> str:
    """Write an explanation as a page of its own."""
    sources: dict[str, int] = {}
    sections = "\n".join(_section(step, sources) for step in explanation.steps)
    links = " ".join(f'<a href="#step{s.number}">{s.number} {escape(s.title)}</a>' for s in explanation.steps)
    listed = "".join(f'<li id="source{index}">{escape(source)}</li>' for source, index in sources.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(explanation.title)}</title><style>{_STYLE}</style></head><body>\n"
        f'<h1>{escape(explanation.title)}</h1>\n<p class="answer">{escape(explanation.answer)}</p>\n'
        f"<nav>{links}</nav>\n{sections}\n<section><h2>Sources</h2><ol>{listed}</ol></section>\n</body></html>\n"
    )


def _section(step: Step, sources: dict[str, int]) -> str:
    tables = "".join(_table(table, sources) for table in step.tables)
    charts = "".join(f"<figure>{render_svg(chart)}</figure>" for chart in step.charts)
    return (
        f'<section id="step{step.number}"><h2>{step.number}. {escape(step.title)}</h2>'
        f'<p class="question">{escape(step.question)}</p><div class="columns">'
        f"{_facts('In', step.inputs, sources)}{_facts('Out', step.results, sources)}</div>"
        f'{tables}<div class="columns">{charts}</div><p class="conclusion">{escape(step.conclusion)}</p></section>'
    )


def _reference(source: str, sources: dict[str, int]) -> str:
    index = sources.setdefault(source, len(sources) + 1)
    return f'<sup><a href="#source{index}" title="{escape(source)}">{index}</a></sup>'


def _facts(title: str, facts: tuple[Fact, ...], sources: dict[str, int]) -> str:
    if not facts:
        return ""
    rows = "".join(
        f'<tr><td>{escape(fact.name)}</td><td class="number">{escape(fact.text)}'
        f"{_reference(fact.source, sources)}</td></tr>"
        for fact in facts
    )
    return f"<div><h3>{title}</h3><table>{rows}</table></div>"


#: A number as a text, also a percentage or one with an interval.
_NUMBER = re.compile(r"[-−+~]?[\d,.]+( ?%)?( \([\d,.–-]+\))?")
#: What stands in a column of numbers where there is none.
_NO_NUMBER = ("any", "unknown", "none", "–", "")


def _is_number(value: Value) -> bool:
    if isinstance(value, bool):
        return False
    return not isinstance(value, str) or value in _NO_NUMBER or _NUMBER.fullmatch(value) is not None


def _right(column: list[Value]) -> bool:
    """Whether a column holds numbers, which are compared digit below digit."""
    return all(map(_is_number, column)) and any(value not in _NO_NUMBER for value in column if value is not None)


def _table(table: Table, sources: dict[str, int]) -> str:
    numeric = [_right([row[i] for row in table.rows]) for i in range(len(table.columns))]

    def cell(tag: str, text: str, right: bool) -> str:
        return f"<{tag}{' class=number' if right else ''}>{escape(text)}</{tag}>"

    head = "".join(cell("th", column, right) for column, right in zip(table.columns, numeric, strict=True))
    rows = "".join(
        f"<tr{' class=chosen' if i == table.chosen else ''}>"
        + "".join(cell("td", number(value), right) for value, right in zip(row, numeric, strict=True))
        + "</tr>"
        for i, row in enumerate(table.rows)
    )
    title = f"{escape(table.title)}{_reference(table.source, sources)}"
    return f'<h3>{title}</h3><div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'
