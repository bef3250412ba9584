"""Writes the API reference from the docstrings of the public names; ``--check`` only says whether it is current.

    python docs/reference/generate.py [--check]

Exit status: 0 written or current, 1 out of date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import griffe

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
PACKAGES = ("pipeline", "sizing")
_WIDTH = 100


def render() -> dict[Path, str]:
    """Return the text of every file of the reference."""
    loader = griffe.GriffeLoader(search_paths=[ROOT], docstring_parser="google", store_source=False)
    return {FOLDER / f"{name}.md": _package(loader.load(name)) for name in PACKAGES}


def _package(package: Any) -> str:
    names = sorted(name for name in package.exports if name != "__version__")
    lines = [f"# `import {package.name}`", "", "Generated from docstrings by `python docs/reference/generate.py`.", ""]
    lines += [*_docstring(package), "| name | what it is |", "|---|---|"]
    anchors: set[str] = set()
    objects = {str(name): package[str(name)].final_target for name in names}
    for name, found in objects.items():
        first = _plain(found.docstring.value.split("\n\n")[0]).replace("\n", " ").replace("|", "\\|")
        anchor = name.lower()
        if anchor in anchors:  # ``plan`` after ``Plan``: a forge numbers the second heading
            anchor += "-1"
        anchors.add(anchor)
        lines.append(f"| [`{name}`](#{anchor}) | {first} |")
    for name, found in objects.items():
        lines += ["", f"## {name}", "", f"*{found.kind.value} of `{found.module.path}`*", ""]
        lines += _class(name, found) if found.is_class else _function(name, found)
    return "\n".join(lines).rstrip() + "\n"


def _function(name: str, found: Any) -> Iterator[str]:
    parameters = [p for p in found.parameters if p.name not in ("self", "cls")]
    yield from _code(name, parameters, found.returns)
    yield from _docstring(found)


def _class(name: str, found: Any) -> Iterator[str]:
    members = {key: member for key, member in found.members.items() if not key.startswith("_") and not member.is_alias}
    attributes = [member for member in members.values() if member.is_attribute]
    fields = [member for member in attributes if "property" not in member.labels and member.annotation is not None]
    first = found.members.get("__init__")
    if first is not None and not {"dataclass"} & found.labels:
        yield from _code(name, [p for p in first.parameters if p.name != "self"], None)
    yield from _docstring(found)
    if fields:
        yield from ["| field | type | default |", "|---|---|---|"]
        defaults = first is None or "dataclass" in found.labels  # else what ``__init__`` sets
        yield from (f"| `{f.name}` | {_cell(f.annotation)} | {_cell(f.value) if defaults else ''} |" for f in fields)
        yield ""
    constants = [member for member in attributes if member not in fields and "property" not in member.labels]
    if constants and any(str(base).endswith("Enum") for base in found.bases):
        yield from [f"Values: {', '.join(f'`{c.name}` = `{c.value}`' for c in constants)}.", ""]
    for key, member in members.items():
        if member.is_function or "property" in member.labels:
            yield from [f"### {name}.{key}", ""]
            if member.is_function:
                yield from _function(key, member)
            else:
                yield from _code(key, None, member.annotation)
                yield from _docstring(member)


def _docstring(found: Any) -> Iterator[str]:
    """A docstring as Markdown: its text, then arguments, what is returned and what is raised."""
    for section in found.docstring.parsed if found.docstring is not None else ():
        kind = section.kind.value
        if kind == "text":
            yield from [_plain(section.value), ""]
        elif kind == "examples":
            yield from ["```pycon", *(text for _, text in section.value), "```", ""]
        elif kind in ("parameters", "raises"):
            entries = ((e.name if kind == "parameters" else str(e.annotation), e.description) for e in section.value)
            yield from [f"{'Arguments' if kind == 'parameters' else 'Raises'}:", "", *_entries(entries), ""]
        elif kind in ("returns", "yields"):
            text = " ".join(_plain(entry.description).replace("\n", " ") for entry in section.value)
            yield from [f"{kind.capitalize()}: {text}", ""]
        else:
            raise ValueError(f"{found.path}: the reference has no form for a docstring's section {kind!r}")


def _entries(entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield from (f"- `{name}`: " + _plain(text).replace("\n", " ") for name, text in entries)


def _code(name: str, parameters: Iterable[Any] | None, returns: Any) -> list[str]:
    """A signature as a block of code, over several lines where it is long; no parameters: a property."""
    end = "" if returns is None else f" -> {returns}"
    if parameters is None:
        return ["```python", f"{name}{f': {returns}' if returns is not None else ''}", "```", ""]
    parts: list[str] = []
    for parameter in parameters:
        kind = parameter.kind.value if parameter.kind is not None else ""
        if kind == "keyword-only" and "*" not in parts and not any(part.startswith("*") for part in parts):
            parts.append("*")
        star = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        text = star + parameter.name + (f": {parameter.annotation}" if parameter.annotation is not None else "")
        parts.append(text if parameter.default is None or star else f"{text} = {parameter.default}")
    line = f"{name}({', '.join(parts)}){end}"
    if len(line) > _WIDTH:
        line = f"{name}(\n    " + ",\n    ".join(parts) + f",\n){end}"
    return ["```python", line, "```", ""]


def _plain(text: str) -> str:
    """Code in Markdown's single backticks."""
    return re.sub(r"``([^`]+)``", r"`\1`", text.strip())


def _cell(value: Any) -> str:
    text = "" if value is None else " ".join(str(value).split()).replace("|", "\\|")
    return f"`{text}`" if text else ""


def main() -> int:
    """Write what has changed, or say what would."""
    changed = {
        path: text for path, text in render().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    if "--check" not in sys.argv[1:]:
        for path, text in changed.items():
            path.write_text(text, encoding="utf-8")
        return 0
    for path in changed:
        print(f"{path.relative_to(ROOT)} is out of date: python docs/reference/generate.py", file=sys.stderr)
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
