"""How names of the code and numbers are written in sentences; keys of JSON and evidence stay as they are."""

from __future__ import annotations

import re

__all__ = ["dollars", "grouped", "rule_words", "words"]

#: Decision rules of this distribution by the form of their names: the sentence's words, and whether a headroom follows.
_RULES = (
    (re.compile(r"forecast_q(?P<number>[0-9.]+)"), "the forecast's {number} % quantile"),
    (re.compile(r"observed_x(?P<times>[0-9.]+)"), "observed demand"),
    (re.compile(r"peak_(?P<number>[0-9]+)_x(?P<times>[0-9.]+)"), "the peak of the last {number} windows"),
    (re.compile(r"season_x(?P<times>[0-9.]+)"), "the peak at this time of the last season"),
    (re.compile(r"trend_x(?P<times>[0-9.]+)"), "the trend"),
)


def words(name: str) -> str:
    """Return an identifier in words.

    >>> words("utilisation_margin")
    'utilisation margin'
    """
    return "KV memory" if name == "kv_memory" else name.replace("_", " ")


def rule_words(name: str) -> str:
    """Return what a decision rule provisions for, in words; a rule of another distribution by its own name.

    >>> rule_words("forecast_q95"), rule_words("observed_x1.3"), rule_words("season_x1")
    ("the forecast's 95 % quantile", 'observed demand × 1.3', 'the peak at this time of the last season')
    """
    for form, text in _RULES:
        found = form.fullmatch(name)
        if found is not None:
            parts = found.groupdict()
            times = parts.get("times", "1")
            return text.format(**parts) + ("" if float(times) == 1.0 else f" × {times}")
    return f"the rule {words(name)}"


def grouped(value: float) -> str:
    """Return a number with three significant digits at least, thousands apart; very small ones as powers.

    >>> grouped(20436.4), grouped(12.34), grouped(0.5), grouped(0.00002)
    ('20,436', '12.3', '0.5', '2e-05')
    """
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def dollars(value: float, decimals: int = 0) -> str:
    """Return an amount of US dollars, the sign before the currency.

    >>> dollars(16529.3), dollars(-2.5, 2)
    ('$16,529', '-$2.50')
    """
    return f"{'-' if value < 0 else ''}${abs(value):,.{decimals}f}"
