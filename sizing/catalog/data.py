"""The catalogue's data files."""

from __future__ import annotations

from functools import cache
from typing import Any

__all__ = ["section"]


@cache
def section(file: str, name: str) -> dict[str, Any]:
    """Return one section of a data file of the package; read once per process, do not change it."""
    # Importing the library stays quick: these load with the first name that is looked up.
    from importlib import resources

    import yaml

    text = resources.files("sizing.catalog").joinpath(file).read_text(encoding="utf-8")
    # The same loader, four times as fast where PyYAML was built with libyaml.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    entries: dict[str, Any] = yaml.load(text, Loader=loader)[name]
    return entries
