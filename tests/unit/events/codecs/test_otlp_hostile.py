"""Spans and records made to deceive: each is judged as it is alone, costs no more, and leaves no private text."""

from __future__ import annotations

import gc
import random
from typing import Any

import numpy as np
import pytest

from pipeline.events.codecs import otlp_attributes, otlp_batch
from pipeline.events.codecs.otlp_batch import MIN_SPANS
from pipeline.events.codecs.otlp_split import Spans
from tests.protobuf_bytes import any_value, attribute, field, groups
from tests.unit.events.codecs.test_otlp_batch import CHAT, decoded, judged_among_others, span, together

MANY = 2 * MIN_SPANS


def written(spans: list[bytes], resource: bytes = b"") -> bytes:
    """A record of spans that are written already."""
    return field(1, field(1, resource) + field(2, b"".join(field(2, one) for one in spans)))


def usual(number: int, **more: Any) -> bytes:
    return bytes(span(number, CHAT | more).SerializeToString())


USUAL = [written([usual(i)]) for i in range(1, MANY)]


@pytest.mark.parametrize("value_first", [False, True], ids=["sdk", "collector"])
@pytest.mark.parametrize("size", [124, 125, 126, 127])
def test_a_length_with_no_room_in_its_byte_is_broken_in_company_too(size: int, value_first: bool) -> None:
    def with_id(number: int, value: bytes) -> bytes:
        key = field(1, b"gen_ai.response.id")
        return written([usual(number) + field(9, value + key if value_first else key + value)])

    others = [with_id(i, field(2, any_value("id"))) for i in range(1, MANY)]
    text = b"t" * size  # from 126 on the length before it would take two bytes
    judged_among_others(others, with_id(MANY, bytes((0x12, size + 2, 0x0A, size)) + text))


@pytest.mark.parametrize("depth", [96, 97, 98, 99, 100, 101])
def test_what_is_nested_too_deeply_for_a_record_is_refused_in_company_too(depth: int) -> None:
    judged_among_others(USUAL, written([usual(MANY) + groups(depth)]))
    judged_among_others(USUAL, written([usual(MANY)], resource=groups(depth)))
    judged_among_others(USUAL, written([usual(MANY) + field(5, b"k" * 300)]))  # bytes like those that begin a group


def test_many_broken_resources_are_refused_each() -> None:
    def broken(number: int) -> bytes:
        return field(1, b"\x0a\x06\x0a\xff" + number.to_bytes(4, "little"))

    found = together([*USUAL, *(field(1, broken(i)) for i in range(500))])
    assert found.taken.tolist() == [True] * len(USUAL) + [False] * 500


@pytest.mark.parametrize("records", [1, 100])
def test_parts_of_a_few_bytes_take_no_memory(records: int) -> None:
    values = [*USUAL, *[field(1, field(2, field(2, b"") * 20_000))] * records]
    spans = Spans(values, None)
    assert len(spans.starts) < sum(map(len, values)) / 8
    assert spans.left.tolist() == [False] * len(USUAL) + [True] * records
    assert together(values).taken.tolist() == (~spans.left).tolist()
    if records == 1:
        notes = decoded(values).notes
        assert notes.ignored == [len(USUAL)]
        assert notes.ignored_parts == [(len(USUAL), 20_000)]


def test_the_search_for_layouts_ends_where_all_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    match = otlp_batch.match
    monkeypatch.setattr(otlp_batch, "match", lambda *given: (tried.append(1), match(*given))[1])
    values = [written([usual(i, **{f"own{i % 100}": 1})]) for i in range(1, 4 * MANY)]
    assert together(values) is None
    assert len(tried) == 4
    assert len(decoded(values).columns) == len(values)
    tried.clear()
    odd = [written([usual(MANY + i, **{f"own{i}": 1})]) for i in range(40)]
    assert together([*odd, *USUAL]).taken.all()  # whatever comes first


def test_spans_that_are_almost_all_of_their_own_class_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_batch, "_MOST_CLASSES", 100)
    values = [written([usual(i, **{"tokentide.tenant": f"t{i}"})]) for i in range(1, MANY)]
    assert together(values) is None
    assert len(decoded(values).columns) == len(values)


def test_classes_differ_though_their_bytes_in_a_row_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_batch, "_KNOWN_CLASSES", {})
    pairs = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc")]
    values = [
        written([usual(i, **{"tokentide.tenant": pairs[i % 4][0], "tokentide.workload": pairs[i % 4][1]})])
        for i in range(1, MANY)
    ]
    for _ in range(2):  # the second time from what is remembered
        found = together(values)
        assert [(event.tenant or "", event.workload or "") for event in found.events] == [
            pairs[i % 4] for i in range(1, MANY)
        ]


SECRET = "SECRET"


def reachable(*roots: Any) -> list[Any]:
    """All that is kept alive by some objects, but for modules and what they hold."""
    seen: dict[int, Any] = {}
    new = list(roots)
    while new:
        new = [one for one in gc.get_referents(*new) if id(one) not in seen and not _is_code(one)]
        seen |= {id(one): one for one in new}
    return list(seen.values())


def _is_code(one: Any) -> bool:
    return isinstance(one, type | type(gc)) or (isinstance(one, dict) and "__name__" in one)


@pytest.mark.parametrize("alone", [False, True], ids=["together", "one by one"])
@pytest.mark.parametrize("value_first", [False, True], ids=["sdk", "collector"])
def test_no_text_that_is_not_read_is_remembered(
    alone: bool, value_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp_batch, "_KNOWN_CLASSES", {})
    otlp_attributes._remembered.cache_clear()
    otlp_attributes._keys_of.cache_clear()
    seed = random.Random(1)

    def private(name: str) -> bytes:
        return field(9, attribute(name, any_value(SECRET), value_first=value_first))

    def secretive(number: int) -> bytes:
        own = usual(number, **{f"own{number}": 1}) if alone else usual(number)
        status = field(15, field(2, SECRET.encode()) + b"\x18\x02")
        return own + private("gen_ai.input.messages") + field(13, SECRET.encode()) + field(3, SECRET.encode()) + status

    resource = field(1, attribute("process.command_line", any_value(SECRET))) * 2
    values = [written([secretive(i)], resource=resource) for i in range(1, MANY)]
    seed.shuffle(values)
    assert (together(values) is None) == alone
    assert len(decoded(values).columns) == len(values)
    kept = reachable(otlp_batch._KNOWN_CLASSES, otlp_attributes._remembered, otlp_attributes._keys_of)
    assert any(one == CHAT["gen_ai.request.model"] for one in kept if isinstance(one, str))
    assert [one for one in kept if isinstance(one, bytes | str) and SECRET in str(one)] == []
    words = np.frombuffer(SECRET.encode().ljust(8, b"\0"), "<u8")
    assert int(words[0]) not in [one for one in kept if isinstance(one, int)]


def test_the_names_of_attributes_that_are_not_read_are_told_from_those_that_are() -> None:
    wanted = frozenset({"n"})
    both = field(1, b"n") + field(2, any_value(1)) + field(1, b"other")  # of two keys the last counts
    assert otlp_attributes.plain_attributes([both, both], wanted) == {}
    assert otlp_attributes.plain_attributes([attribute("n", any_value(2))], wanted) == {"n": 2}
    for value_first in (False, True):
        other = attribute("other", any_value(1), value_first=value_first)
        assert otlp_attributes.plain_attributes([other] * 2, wanted) == {}
