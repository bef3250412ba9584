"""Text from outside on a terminal: what would steer the terminal, or hide or reorder text, is written out."""

from __future__ import annotations

import unicodedata

__all__ = ["visible"]

#: Control and format characters (bidirectional overrides among them), lone surrogates, separators of lines.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible(text: str, keep: str = "") -> str:
    r"""Return ``text`` with each character that has no shape of its own as its escape, but for those in ``keep``.

    >>> print(visible("a\x1b[31mb\u202ec"))
    a\x1b[31mb\u202ec
    >>> visible("two\nlines", keep="\n")
    'two\nlines'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode("ascii")
        if char not in keep and unicodedata.category(char) in _UNSEEN
        else char
        for char in text
    )
