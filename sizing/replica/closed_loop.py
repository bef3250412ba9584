"""The time to first token of a closed loop, as a sum of terms: clients that send back to back wait behind each other.

The terms are a constant, the step, the own prompt, a share of everybody's prompts, a cost per client, reading the
weights, and steps of the batch (``sizing.calibration.global_fit.TTFT_TERMS``, in this order).
"""

from __future__ import annotations

from sizing.catalog.gpus import Overheads

__all__ = ["device_factors", "ttft_terms", "wave_ratio"]

#: Units of the terms; ``sizing.calibration.global_fit`` scales them.
_FIXED_SECONDS, _WAIT_SHARE, _CLIENT_SECONDS, _STEP_SHARE = 0.03, 0.25, 1e-3, 0.05


def ttft_terms(
    base_seconds: float, step_seconds: float, own_seconds: float, lane_clients: float, clients: float
) -> tuple[float, ...]:
    """Return the unscaled terms, seconds.

    ``base_seconds`` of ``step_seconds`` are what any batch pays, ``own_seconds`` the time of the own prompt;
    ``lane_clients`` of ``clients`` send to one lane.
    """
    return (
        _FIXED_SECONDS,
        step_seconds,
        own_seconds,
        _WAIT_SHARE * lane_clients * own_seconds,
        _CLIENT_SECONDS * clients,
        base_seconds,
        _STEP_SHARE * lane_clients * step_seconds,
    )


def wave_ratio(prompts_first: bool, prompt_share: float) -> float:
    """Return the least TPOT over the predicted one where clients of a closed loop send in waves.

    An engine that computes waiting prompts before it decodes on keeps clients together whose outputs are of one length:
    they send at once, wait for each other's prompts and finish at once. Half of what prompts take, ``prompt_share`` of
    a step, is then waited for before the first token and not between tokens; throughput is the same. Whether clients
    do so, no deployment tells.
    """
    return 1.0 - prompt_share / 2.0 if prompts_first else 1.0


def device_factors(overheads: Overheads) -> tuple[float, ...]:
    """Return factors on the terms that make TTFT the request's overhead, a step, the own prompt and a share of every
    other client's."""
    share = overheads.prompt_wait_share
    return (overheads.request_seconds / _FIXED_SECONDS, 1.0, 1.0 - share, share / _WAIT_SHARE, 0.0, 0.0, 0.0)
