"""Keys of earlier versions: accepted for one minor version with a warning; ``config migrate`` rewrites them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any, NamedTuple

__all__ = ["OLD_KEYS", "OldKey", "current_values", "migrate_toml"]


class OldKey(NamedTuple):
    """A key that was renamed or has no effect any more.

    ``path`` names it from the top, with ``[]`` after an array of tables: ``("pools[]", "gpu")``. ``now`` is its new
    path with the same arrays; None: it has no effect. ``refused_in`` is the version that does not know it any more.
    """

    path: tuple[str, ...]
    now: tuple[str, ...] | None
    refused_in: str

    def text(self) -> str:
        """What to tell who uses it."""
        name = ".".join(self.path)
        end = f"is refused from version {self.refused_in} on"
        if self.now is None:
            return f"{name} has no effect and {end}: remove it (tokentide config migrate)"
        return f"{name} is now {'.'.join(self.now)}; the old name {end} (tokentide config migrate)"


#: Every key that an earlier version knew and this one does not.
OLD_KEYS: tuple[OldKey, ...] = (OldKey(("forecast", "seed"), None, "0.3"),)


def current_values(values: dict[str, Any], old_keys: Sequence[OldKey] = OLD_KEYS) -> dict[str, Any]:
    """Return settings with the keys of this version, and warn (``FutureWarning``) of each old one.

    Where both names are given, the new one counts.
    """
    result = values
    for old in old_keys:
        if any(True for _ in _holders(result, old.path)):
            warnings.warn(old.text(), FutureWarning, stacklevel=2)
            result = copy.deepcopy(result)
            _move(result, old)
    return result


def migrate_toml(text: str, old_keys: Sequence[OldKey] = OLD_KEYS) -> tuple[str, list[str]]:
    """Return a TOML file with the keys of this version, comments and order kept, and what was changed.

    Raises:
        ValueError: it is not TOML.
    """
    import tomlkit

    document = tomlkit.parse(text)
    changed = []
    for old in old_keys:
        if any(True for _ in _holders(document, old.path)):
            _move(document, old)
            became = "removed" if old.now is None else f"is now {'.'.join(old.now)}"
            changed.append(f"{'.'.join(old.path)} {became}")
    return tomlkit.dumps(document), changed


def _holders(values: Any, path: tuple[str, ...]) -> Iterator[tuple[MutableMapping[str, Any], tuple[Any, ...]]]:
    """Every table that holds the last key of ``path``, and the tables above it, the top first."""
    yield from _search(values, path, ())


def _search(
    values: Any, path: tuple[str, ...], above: tuple[Any, ...]
) -> Iterator[tuple[MutableMapping[str, Any], tuple[Any, ...]]]:
    if not isinstance(values, MutableMapping):
        return
    name, *rest = path
    key = name.removesuffix("[]")
    if not rest:
        if key in values:
            yield values, above
        return
    inner = values.get(key)
    for each in inner if name.endswith("[]") and isinstance(inner, list) else [inner]:
        yield from _search(each, tuple(rest), (*above, values))


def _move(values: MutableMapping[str, Any], old: OldKey) -> None:
    for table, above in list(_holders(values, old.path)):
        value = table.pop(old.path[-1])
        if old.now is None:
            continue
        shared = 0
        while shared < min(len(old.path), len(old.now)) - 1 and old.path[shared] == old.now[shared]:
            shared += 1
        target: Any = (*above, table)[shared]
        for name in old.now[shared:-1]:
            target = target.setdefault(name, {})
        target.setdefault(old.now[-1], value)
