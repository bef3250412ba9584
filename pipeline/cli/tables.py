"""Rows as text for a terminal: a table where words or parts of names fit beside each other, else a block for each row.

A table that is squeezed until names and numbers break cannot be read, nor copied from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.cli.visible import visible

__all__ = ["laid_out", "short_number"]

#: Between two columns.
_GAP = 2


def short_number(value: float) -> str:
    """Return four digits or all whole ones, never an exponent for a large number: 0.4207, 53.76, 14,832."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def laid_out(columns: Sequence[str], rows: Iterable[Sequence[Any]], width: int, *, blocks: bool) -> RenderableType:
    """Return the rows as Rich prints them, ``width`` characters wide.

    Cells wrap between words; where that is too wide also within names, after "/", "_", "|" and a "-" beside a letter.
    Where even those parts do not fit beside each other and ``blocks`` is true, each row is a block of its own with a
    line for each column; what is empty is left out there.
    """
    cells = [["" if cell is None else visible(str(cell)) for cell in row] for row in rows]
    lines = [list(columns), *cells]
    whole = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    free = width - _GAP * (len(columns) - 1)
    widths: list[int] | None = None
    for parts in (str.split, _parts):
        least = [max(_longest(parts(cell)) for cell in column) for column in zip(*lines, strict=True)]
        if sum(whole) > free >= sum(least):
            widths = _shared(whole, least, free)
            break
    if sum(whole) > free and widths is None and blocks and cells and len(columns) > _BLOCK_COLUMNS:
        return _blocks(columns, cells)
    table = Table(box=None, pad_edge=False, header_style="bold")
    sizes: Sequence[int | None] = widths or [None] * len(columns)
    for column, size in zip(columns, sizes, strict=True):
        table.add_column(_wrapped(column, size), overflow="fold", width=size)
    for row in cells:
        table.add_row(*map(_wrapped, row, sizes))
    return table


#: Tables of so few columns are never made into blocks, which are two columns themselves.
_BLOCK_COLUMNS = 2


#: Where a name may be broken: after these, not within a date or a range of numbers.
_BREAK = re.compile(r"(?<=[/_|])|(?<=[^\W\d]-)|(?<=-)(?=[^\W\d])|\s+")


def _parts(cell: str) -> list[str]:
    return [part for part in _BREAK.split(cell) if part]


def _longest(parts: Iterable[str]) -> int:
    return max(map(cell_len, parts), default=0)


def _wrapped(cell: str, width: int | None) -> Text:
    """The cell with its words broken where they are too long for ``width``.

    As Text: Rich reads a string as markup, and names come from anywhere.
    """
    if width is None:
        return Text(cell)
    words = []
    for word in cell.split(" "):
        line = ""
        for part in [word] if cell_len(word) <= width else _parts(word):
            if line and cell_len(line + part) > width:
                words.append(line)
                line = ""
            line += part
        words.append(line)
    return Text(" ".join(words))


def _shared(whole: Sequence[int], least: Sequence[int], free: int) -> list[int]:
    """Widths of columns from ``least`` on, what is free beyond those shared by need."""
    spare, needs = free - sum(least), [full - part for full, part in zip(whole, least, strict=True)]
    widths = list(least)
    # Those that need least get all of it: a time or a name stays on one line, a long text wraps.
    order = sorted(range(len(needs)), key=needs.__getitem__)
    for place, column in enumerate(order):
        given = min(needs[column], spare // (len(order) - place))
        widths[column] += given
        spare -= given
    return widths


def _blocks(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for place, row in enumerate(rows):
        if place:
            table.add_row("", "")
        for column, cell in zip(columns, row, strict=True):
            if cell:
                table.add_row(Text(column), Text(cell))
    return table
