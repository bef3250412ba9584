"""Finds the project's data files (schemas, dashboards), from an installed wheel and from a checkout alike."""

from __future__ import annotations

from pathlib import Path

__all__ = ["find"]

_PACKAGE = Path(__file__).resolve().parents[1]


def find(relative: str) -> Path:
    """Return the path of a data file or folder such as ``schemas/request.v1.schema.json``.

    Raises:
        FileNotFoundError: it is neither in the installed package nor in the checkout.
    """
    for base in (_PACKAGE / "_data", _PACKAGE.parent):
        candidate = base / relative
        if candidate.exists():
            return candidate
    raise FileNotFoundError(f"{relative} is in neither the installed package nor the checkout")
