"""What the requests that are provisioned for are like: tokens per second over requests per second.

A replica computes prompts and answers in the same steps. Where answers become longer and prompts do not, a demand of so
many output tokens needs less than its ratio to what a replica carries of them at the mean request, and the same holds
for prompts. Where arrivals are bursty, a mix of the mean rates says little about the requests of a burst.
"""

from __future__ import annotations

from dataclasses import replace

from sizing.types import Provision, Workload

__all__ = ["mix_share", "provisioned_mix"]

#: Lengths of a mix that differ from the mean by more than this factor are not believed: a rate is next to nothing.
_MOST_APART = 4.0
#: Up to this index of dispersion a mix counts whole, and from the second one on not at all.
_WHOLE_DISPERSION, _NO_DISPERSION = 2.0, 4.0


def mix_share(dispersion: float) -> float:
    """Return how far a mix counts with such arrivals (index of dispersion), from 1 to 0, linear between the limits."""
    return min(1.0, max(0.0, (_NO_DISPERSION - dispersion) / (_NO_DISPERSION - _WHOLE_DISPERSION)))


def provisioned_mix(workload: Workload, provision: Provision, share: float = 1.0) -> Workload | None:
    """Return the request of which ``provision`` is made: its tokens per second over its requests per second.

    ``share`` in [0, 1] is how far its lengths go from those of the mean request, as a power of their ratios: at 0 it is
    the mean request. Second moments and quantiles are scaled with the means, so that lengths vary as much as before in
    relation to them; the share that is cached stays. None where the rates do not make up a request: one of them is
    zero, or the mean request has no such tokens, or lengths would be more than four times those of the mean request, or
    less than a quarter.
    """
    requests = provision.requests_per_second
    computed, output = workload.input_tokens * (1.0 - workload.cached_share), workload.output_tokens
    if requests <= 0 or computed <= 0 or output <= 0:
        return None
    longer_in = provision.prefill_tokens_per_second / requests / computed
    longer_out = provision.decode_tokens_per_second / requests / output
    if not all(1.0 / _MOST_APART <= ratio <= _MOST_APART for ratio in (longer_in, longer_out)):
        return None
    longer_in, longer_out = longer_in**share, longer_out**share
    return replace(
        workload,
        input_tokens=workload.input_tokens * longer_in,
        output_tokens=output * longer_out,
        input_tokens_squared=_scaled(workload.input_tokens_squared, longer_in**2),
        output_tokens_squared=_scaled(workload.output_tokens_squared, longer_out**2),
        input_output_product=_scaled(workload.input_output_product, longer_in * longer_out),
        input_quantile=_scaled(workload.input_quantile, longer_in),
        output_quantile=_scaled(workload.output_quantile, longer_out),
    )


def _scaled(value: float | None, by: float) -> float | None:
    return None if value is None else value * by
