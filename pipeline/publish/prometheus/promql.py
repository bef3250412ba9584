"""The subset of PromQL that is served, read with the grammar of promql-parser.

Selectors with ``=``, ``!=``, ``=~``, ``!~`` and ``offset``; ``sum``, ``min``, ``max``, ``avg``, ``count`` with ``by``
or ``without``; numbers; ``+``, ``-``, ``*``, ``/`` with a number on at least one side. All else is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import promql_parser as grammar

from pipeline.publish.prometheus.errors import bad_data

__all__ = ["AGGREGATIONS", "Aggregation", "Arithmetic", "Matcher", "Node", "Number", "Selector", "parse"]

MAX_LENGTH = 4_000  # characters
#: Operators, parentheses and calls outside strings: the grammar takes time by the square of their depth.
MAX_OPERATORS = 64
AGGREGATIONS = ("sum", "min", "max", "avg", "count")
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`[^`]*`', re.DOTALL)
_OPERATORS = re.compile(r"[-+*/%^(!=<>]|\b(?:and|or|unless|atan2)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on a label: ``op`` is ``=``, ``!=``, ``=~`` or ``!~``. An absent label has the value ``""``."""

    name: str
    op: str
    value: str


@dataclass(frozen=True, slots=True)
class Selector:
    """Series of which every matcher holds (the name of the metric is the label ``__name__``), so long before now."""

    matchers: tuple[Matcher, ...]
    offset_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One series for each group of ``labels`` (``without``: of all other labels)."""

    op: str
    of: Node
    labels: tuple[str, ...]
    without: bool


@dataclass(frozen=True, slots=True)
class Number:
    """A scalar."""

    value: float


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """``left op right``; at least one of them is scalar."""

    op: str
    left: Node
    right: Node


Node = Selector | Aggregation | Number | Arithmetic


def parse(query: str) -> Node:
    """Return what a query asks for.

    Raises:
        QueryError: 400, it is no PromQL, or it uses what is not served.
    """
    if len(query) > MAX_LENGTH:
        raise bad_data(f"the query has more than {MAX_LENGTH} characters")
    if len(_OPERATORS.findall(_STRINGS.sub("", query))) > MAX_OPERATORS:
        raise bad_data(f"the query has more than {MAX_OPERATORS} operators and parentheses")
    try:
        found = grammar.parse(query)
    except ValueError as error:
        raise bad_data(f'invalid parameter "query": {error}') from None
    return _node(found)


def scalar(node: Node) -> bool:
    """Whether a node is a number, and no series."""
    return isinstance(node, Number) or (isinstance(node, Arithmetic) and scalar(node.left) and scalar(node.right))


def _node(found: Any) -> Node:
    if isinstance(found, grammar.ParenExpr):
        return _node(found.expr)
    if isinstance(found, grammar.NumberLiteral):
        return Number(float(found.val))
    if isinstance(found, grammar.UnaryExpr):  # only minus has one
        return Arithmetic("*", Number(-1.0), _node(found.expr))
    if isinstance(found, grammar.VectorSelector):
        return _selector(found)
    if isinstance(found, grammar.AggregateExpr):
        return _aggregation(found)
    if isinstance(found, grammar.BinaryExpr):
        return _arithmetic(found)
    if isinstance(found, grammar.Call):
        raise bad_data(f"functions are not served here ({found.func.name}); {_SERVED}")
    kinds = {
        grammar.MatrixSelector: "range selectors",
        grammar.SubqueryExpr: "subqueries",
        grammar.StringLiteral: "strings",
    }
    raise bad_data(f"{kinds.get(type(found), type(found).__name__)} are not served here; {_SERVED}")


_SERVED = "selectors, offset, sum, min, max, avg and count, and arithmetic with numbers are"


def _selector(found: Any) -> Selector:
    if found.at is not None:
        raise bad_data(f"the @ modifier is not served here; {_SERVED}")
    if found.matchers.or_matchers:
        raise bad_data(f"'or' between matchers is not served here; {_SERVED}")
    named = [] if not found.name else [Matcher("__name__", "=", found.name)]
    ops = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
    told = [Matcher(m.name, ops[str(m.op).rpartition(".")[2]], m.value) for m in found.matchers.matchers]
    return Selector((*named, *told), found.offset.total_seconds() if found.offset is not None else 0.0)


def _aggregation(found: Any) -> Aggregation:
    op = str(found.op).lower()
    if op not in AGGREGATIONS or found.param is not None:
        raise bad_data(f"{op} is not served here; {_SERVED}")
    of = _node(found.expr)
    if found.modifier is None:
        return Aggregation(op, of, (), False)
    without = found.modifier.type == grammar.AggModifierType.Without
    return Aggregation(op, of, tuple(found.modifier.labels), without)


def _arithmetic(found: Any) -> Arithmetic:
    op = str(found.op)
    if op not in ("+", "-", "*", "/"):
        raise bad_data(f"the operator {op} is not served here; {_SERVED}")
    left, right = _node(found.lhs), _node(found.rhs)
    if not (scalar(left) or scalar(right)):
        raise bad_data("arithmetic needs a number on at least one side")
    return Arithmetic(op, left, right)
