"""One pool, many names: the other names of a pool's model, and the pool that each is counted in.

LoRA adapters, served-model names and gateways' prefixes are load of the same replicas as the base model. Names are
resolved before windows are made, so that everything behind knows one name per pool.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import translate
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from pipeline.events.columns import EventColumns, EventKey
from pipeline.events.request_event import DEFAULT_POOL, MAX_TEXT_LENGTH
from pipeline.windows.types import PoolKey

__all__ = ["MAX_ALIASES", "PoolAliases"]

#: Aliases of one pool.
MAX_ALIASES = 256
#: Names whose pool is remembered; with more distinct ones they are resolved anew.
_REMEMBERED = 16_384
_WILDCARDS = frozenset("*?")


class _Alias(NamedTuple):
    """Names of models and of pools (globs) that are one pool; ``text`` is how it was written."""

    model: str
    pool: str
    text: str
    target: PoolKey

    @property
    def exact(self) -> bool:
        return _WILDCARDS.isdisjoint(self.model + self.pool)


class _Globs:
    """Globs of models and the pool of each; a name that none matches is told in one pass over it."""

    def __init__(self, globs: Sequence[tuple[str, PoolKey]]) -> None:
        self._any = re.compile("|".join(_pattern(glob) for glob, _ in globs)).match
        self._each = [(_matcher(glob), target) for glob, target in globs]

    def target(self, model: str) -> PoolKey | None:
        """The pool of the first glob that matches; None: none does."""
        if self._any(model) is None:
            return None
        return next(target for match, target in self._each if match(model))


class PoolAliases:
    """The aliases of all pools.

    An alias is ``MODEL`` or ``MODEL|POOL``. ``MODEL`` stands for events of that model in the pool that has the alias,
    and for those that name no pool (``default``); ``MODEL|POOL`` for those of exactly that pool. In both parts ``*``
    stands for any characters and ``?`` for one; letters count in their case. A pool's own name comes before every
    alias, an exact alias before one with wildcards.

    Args:
        aliases: what each configured pool is called besides its own name.

    Raises:
        ValueError: an alias is empty, too long or twice in a pool, a pool has too many, or there are names that two
            pools would take; the text names both.
    """

    def __init__(self, aliases: Mapping[PoolKey, Sequence[str]]) -> None:
        self._own = frozenset(aliases)
        found: list[_Alias] = []
        for pool, texts in aliases.items():
            if len(texts) > MAX_ALIASES:
                raise ValueError(f"pool {_shown(pool)} has {len(texts)} aliases; at most {MAX_ALIASES} are allowed")
            for text in texts:
                found += _parsed(text, pool)
            if len(set(texts)) < len(texts):
                raise ValueError(f"pool {_shown(pool)} names an alias twice")
        exact = [alias for alias in found if alias.exact]
        self._exact: dict[tuple[str, str], PoolKey] = {}
        for alias in exact:
            name = PoolKey(alias.model, alias.pool)
            other = name if name in self._own else self._exact.setdefault(name, alias.target)
            if other != alias.target:
                raise ValueError(_ambiguous(alias.text, alias.target, alias.text, other))
        globs = [alias for alias in found if not alias.exact]
        _check_apart(globs)
        self._of_pool = {
            pool: _Globs([(alias.model, alias.target) for alias in globs if alias.pool == pool])
            for pool in {alias.pool for alias in globs if _WILDCARDS.isdisjoint(alias.pool)}
        }
        self._of_pools = [
            (_matcher(alias.pool), _Globs([(alias.model, alias.target)]))
            for alias in globs
            if not _WILDCARDS.isdisjoint(alias.pool)
        ]
        self._resolved = lru_cache(maxsize=_REMEMBERED)(self._find)

    def __bool__(self) -> bool:
        return bool(self._exact or self._of_pool or self._of_pools)

    def pool_of(self, model: str, pool: str) -> PoolKey:
        """Return the pool in which events of these names are counted."""
        return self._resolved(model, pool)

    def folded(self, columns: EventColumns) -> EventColumns:
        """Return the events under the names of their pools; the costs are per distinct name, not per event."""
        if not self or not len(columns):
            return columns
        found = [self._resolved(model, pool) for model, pool, _ in columns.keys]
        if all(pool == key[:2] for pool, key in zip(found, columns.keys, strict=True)):
            return columns
        codes: dict[EventKey, int] = {}
        place = np.array(
            [
                codes.setdefault(EventKey(*pool, key.dims), len(codes))
                for pool, key in zip(found, columns.keys, strict=True)
            ],
            np.int64,
        )
        return replace(columns, key=place[columns.key], keys=list(codes))

    def _find(self, model: str, pool: str) -> PoolKey:
        key = PoolKey(model, pool)
        if key in self._own:
            return key
        found = self._exact.get(key)
        if found is not None:
            return found
        of_pool = self._of_pool.get(pool)
        found = of_pool.target(model) if of_pool is not None else None
        for pools, models in self._of_pools:
            found = found or (models.target(model) if pools(pool) else None)
        return found or key


def _parsed(text: str, target: PoolKey) -> Iterable[_Alias]:
    model, bar, pool = text.rpartition("|")
    if not bar:
        model = text
    if not model or (bar and not pool):
        raise ValueError(f"alias {text!r} of pool {_shown(target)} is empty; a model's name, or MODEL|POOL, would do")
    if len(model) > MAX_TEXT_LENGTH or len(pool) > MAX_TEXT_LENGTH:
        raise ValueError(
            f"alias {text[:32]!r}… of pool {_shown(target)} is longer than the {MAX_TEXT_LENGTH} characters of a name"
        )
    pools = (pool,) if bar else tuple(dict.fromkeys((target.pool, DEFAULT_POOL)))
    return [_Alias(model, name, text, target) for name in pools]


def _check_apart(globs: Collection[_Alias]) -> None:
    """Make sure that no name is matched by aliases with wildcards of two pools.

    Raises:
        ValueError: one would be.
    """
    seen: list[_Alias] = []
    for alias in globs:
        for other in seen:
            if other.target != alias.target and _overlap(other.pool, alias.pool) and _overlap(other.model, alias.model):
                raise ValueError(_ambiguous(alias.text, alias.target, other.text, other.target))
        seen.append(alias)


def _ambiguous(text: str, target: PoolKey, other_text: str, other: PoolKey) -> str:
    what = f"alias {text!r} matches" if text == other_text else f"aliases {other_text!r} and {text!r} match"
    return (
        f"{what} two pools, {_shown(other)} and {_shown(target)}: a name belongs to one pool; write "
        f"'{text.rpartition('|')[0] or text}|{target.pool}' where the events name their pool"
    )


def _shown(pool: PoolKey) -> str:
    return f"{pool.model}/{pool.pool}"


def _matcher(glob: str) -> Callable[[str], object]:
    return re.compile(_pattern(glob)).match


def _pattern(glob: str) -> str:
    return translate(glob.replace("[", "[[]"))  # fnmatch's character sets are plain text here


def _overlap(one: str, other: str) -> bool:
    """Whether there is a text that two globs match.

    >>> _overlap("sql-*", "*-lora"), _overlap("sql-*", "code-*"), _overlap("a?c", "abc")
    (True, False, True)
    """
    if not _prefixes_agree(one, other) or not _prefixes_agree(one[::-1], other[::-1]):
        return False
    # reached[j]: the part of ``one`` read so far and other[:j] match a common text.
    reached = [True]
    for b in other:
        reached.append(reached[-1] and b == "*")
    for a in one:
        row = [reached[0] and a == "*"]
        for j, b in enumerate(other, 1):
            if a == "*" or b == "*":
                row.append(reached[j] or row[j - 1])
            else:
                row.append(reached[j - 1] and (a == b or "?" in (a, b)))
        reached = row
    return reached[-1]


def _prefixes_agree(one: str, other: str) -> bool:
    """Whether two globs are equal up to the first wildcard or end of either; most pairs are told apart by it."""
    for a, b in zip(one, other, strict=False):
        if a in _WILDCARDS or b in _WILDCARDS:
            return True
        if a != b:
            return False
    return len(one) == len(other) or one[len(other) :][:1] == "*" or other[len(one) :][:1] == "*"
