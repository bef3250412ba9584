"""Where an increasing function crosses zero: a bracket narrowed in few evaluations."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["narrow"]

_MAX_STEPS = 200


def narrow(
    function: Callable[[float], float], low: float, high: float, f_low: float, f_high: float, tolerance: float
) -> tuple[float, float]:
    """Return (low, high) around the zero of an increasing function, at most ``tolerance`` · high apart.

    ``function`` is not above zero at the low end and above zero at the high end; ``f_low`` and ``f_high`` are its
    values there. Chandrupatla 1997, "A new hybrid quadratic/bisection algorithm for finding the zero of a nonlinear
    function without using derivatives": inverse quadratic interpolation where the last three points allow it, else
    bisection, so jumps and infinite values are no harm.

    >>> low, high = narrow(lambda x: x * x - 2.0, 0.0, 2.0, -2.0, 2.0, 1e-12)
    >>> low <= 2**0.5 <= high, round(high, 9)
    (True, 1.414213562)
    """
    # The zero is between a, the newest point, and b; c is the point before.
    a, f_a, b, f_b = low, f_low, high, f_high
    share = 0.5
    for _ in range(_MAX_STEPS):
        x = a + share * (b - a)
        f_x = function(x)
        if (f_x > 0.0) == (f_a > 0.0):
            c, f_c = a, f_a
        else:
            c, f_c = b, f_b
            b, f_b = a, f_a
        a, f_a = x, f_x
        # Steps shorter than this would leave the other end where it is.
        closest = 0.4 * tolerance * max(a, b) / abs(b - a)
        if closest >= 0.4:
            break
        share = 0.5
        if f_b != f_c:
            place, value = (a - b) / (c - b), (f_a - f_b) / (f_c - f_b)
            if value * value < place and (1.0 - value) ** 2 < 1.0 - place:
                share = f_a / (f_b - f_a) * f_c / (f_b - f_c) + (c - a) / (b - a) * f_a / (f_c - f_a) * f_b / (
                    f_c - f_b
                )
                share = min(max(share, closest), 1.0 - closest)
    return (a, b) if a < b else (b, a)
