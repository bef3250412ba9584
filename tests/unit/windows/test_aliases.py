"""Aliases of pools: who takes a name, what is refused, and that folding loses and doubles nothing."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.events.validation import EventLimits
from pipeline.testing.oracle import request_event
from pipeline.windows.aliases import MAX_ALIASES, PoolAliases, _overlap
from pipeline.windows.delta import encode, validate
from pipeline.windows.partition_folder import PartitionAggregator
from pipeline.windows.types import Delta, PoolKey

LLAMA, QWEN = PoolKey("llama", "chat"), PoolKey("qwen", "code")
NOW = 1_700_000_000.0


def aliases(llama: list[str], qwen: list[str] | None = None) -> PoolAliases:
    return PoolAliases({LLAMA: llama, QWEN: qwen or []})


def test_adapters_served_names_and_prefixes_are_counted_in_their_pool() -> None:
    found = aliases(["sql-lora*", "meta-llama/Llama-3.1-8B-Instruct", "openai/*|gateway"])
    assert found.pool_of("sql-lora-v2", "chat") == LLAMA
    assert found.pool_of("meta-llama/Llama-3.1-8B-Instruct", "default") == LLAMA  # names no pool
    assert found.pool_of("openai/anything", "gateway") == LLAMA
    for stranger in (("sql-lora", "batch"), ("meta-llama/llama-3.1-8b-instruct", "chat"), ("openai/x", "chat")):
        assert found.pool_of(*stranger) == stranger


def test_own_names_come_before_exact_aliases_and_those_before_wildcards() -> None:
    found = aliases(["*"], ["special|chat", "q?|code"])
    assert found.pool_of("special", "chat") == QWEN
    assert found.pool_of("anything", "chat") == LLAMA
    assert PoolAliases({LLAMA: ["q*|code"], QWEN: []}).pool_of(*QWEN) == QWEN


@pytest.mark.parametrize(
    ("llama", "qwen"),
    [
        (["sql-lora"], ["sql-lora"]),  # both for events that name no pool
        (["sql-*"], ["*-lora"]),
        (["a?c|x"], ["*b*|x"]),
        (["qwen|code"], []),  # the other pool's own name
    ],
)
def test_a_name_that_two_pools_would_take_is_refused_with_both(llama: list[str], qwen: list[str]) -> None:
    with pytest.raises(ValueError, match="two pools") as refused:
        aliases(llama, qwen)
    assert "llama/chat" in str(refused.value)
    assert "qwen/code" in str(refused.value)


def test_one_adapter_of_two_pools_is_told_apart_by_the_pool() -> None:
    found = aliases(["sql-lora|chat"], ["sql-lora|code"])
    assert [found.pool_of("sql-lora", pool) for pool in ("chat", "code", "default")] == [
        LLAMA,
        QWEN,
        PoolKey("sql-lora", "default"),
    ]


@pytest.mark.parametrize(
    "wrong", [[""], ["|chat"], ["x|"], ["x" * 257], ["a", "a"], [f"m{i}" for i in range(MAX_ALIASES + 1)]]
)
def test_aliases_that_cannot_be_are_refused(wrong: list[str]) -> None:
    with pytest.raises(ValueError, match="llama/chat"):
        aliases(wrong)


def test_hostile_names_are_bounded_and_quick_to_refuse() -> None:
    found = aliases(["a*a*a*a*a*a*a*a*b"])
    for i in range(20_000):
        found.pool_of(f"{i}", "chat")
    found.pool_of("a" * 256, "chat")  # would take for ever with backtracking
    assert found._resolved.cache_info().currsize <= 16_384
    assert aliases(["we[ir]d*"]).pool_of("we[ir]d-1", "chat") == LLAMA


globs = st.text("ab*?", min_size=0, max_size=5)


@settings(max_examples=150, deadline=None)
@given(globs, globs)
def test_overlap_is_what_trying_all_short_names_finds(one: str, other: str) -> None:
    # Two globs of n and m characters that overlap at all do so in a text of at most n + m characters.
    shortest = max(len(one.replace("*", "")), len(other.replace("*", "")))
    texts = ("".join(t) for n in range(shortest, 8) for t in product("ab", repeat=n))
    found = any(fnmatchcase(text, one) and fnmatchcase(text, other) for text in texts)
    assert _overlap(one, other) == _overlap(other, one)
    if found:
        assert _overlap(one, other)
    elif len(one) + len(other) < 8:
        assert not _overlap(one, other)


def _folded(names: list[tuple[str, str]], given_aliases: PoolAliases | None) -> Delta:
    folder = PartitionAggregator("t", 0, "p", EventLimits(), 0, ("tenant",), aliases=given_aliases)
    values = [
        json.dumps(request_event(f"e{i}", NOW + i % 40, model=model, pool=pool, tenant=f"t{i % 2}")).encode()
        for i, (model, pool) in enumerate(names)
    ]
    delta, letters = folder.fold(values, range(len(values)), [int(NOW * 1000)] * len(values), 0, len(values), NOW + 60)
    assert delta is not None
    assert not letters
    validate(delta)
    return delta


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([("llama", "chat"), ("sql-lora", "chat"), ("x", "y"), ("qwen", "code")]), min_size=1))
def test_folding_events_is_folding_renamed_events(names: list[tuple[str, str]]) -> None:
    found = aliases(["sql-*"])
    renamed = [tuple(found.pool_of(*name)) for name in names]
    assert encode(_folded(names, found)) == encode(_folded(renamed, None))  # type: ignore[arg-type]


def test_common_shapes_are_folded_too_and_columns_without_an_alias_are_left_alone() -> None:
    """A batch large enough for the columnar path: 60 % adapters, 40 % the configured name."""
    names = [("sql-lora", "chat") if i % 5 < 3 else ("llama", "chat") for i in range(1_000)]
    delta = _folded(names, aliases(["sql-lora*"]))
    assert {(key.model, key.pool) for key in delta.keys} == {LLAMA}
    assert delta.events == 1_000
    assert int(np.sum(delta.rows.measures[0])) == 1_000
    assert not re.search(b"sql-lora", encode(delta))
