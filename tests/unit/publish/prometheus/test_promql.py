from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.publish.prometheus.errors import QueryError
from pipeline.publish.prometheus.promql import Aggregation, Arithmetic, Matcher, Number, Selector, parse


def test_what_is_served_is_read():
    assert parse('a{b!="c",d=~"e.*"} offset 5m') == Selector(
        (Matcher("__name__", "=", "a"), Matcher("b", "!=", "c"), Matcher("d", "=~", "e.*")), 300.0
    )
    assert parse("sum by (m) (a)") == Aggregation("sum", Selector((Matcher("__name__", "=", "a"),)), ("m",), False)
    assert parse("avg without (m) (a)").without
    assert parse("1 + 1") == Arithmetic("+", Number(1.0), Number(1.0))
    assert parse("(-(a))") == Arithmetic("*", Number(-1.0), Selector((Matcher("__name__", "=", "a"),)))


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("rate(a[5m])", "functions"),
        ("a[5m]", "range selectors"),
        ("a[5m:1m]", "subqueries"),
        ("a @ 5", "@ modifier"),
        ("topk(3, a)", "topk"),
        ("a > 1", "operator >"),
        ("a or b", "operator or"),
        ("a + b", "at least one side"),
        ('a{b="c" or d="e"}', "'or' between matchers"),
        ('"text"', "strings"),
        ("sum(1)", "expected type vector"),
        ("", "no expression"),
        ("a{", "query"),
        ('{a=~".*"}', "non-empty matcher"),
        ("(" * 65 + "a" + ")" * 65, "operators and parentheses"),
        ("a" * 4_001, "characters"),
    ],
)
def test_all_else_is_refused_by_name(query, word):
    with pytest.raises(QueryError, match=word) as error:
        parse(query)
    assert (error.value.status, error.value.kind) == (400, "bad_data")


@given(st.text(alphabet='ab{}()[]=!~"\\,+-*/ 15moffsetbysum@é\n', max_size=60))
def test_any_text_is_read_or_refused(query):
    with suppress(QueryError):
        parse(query)
