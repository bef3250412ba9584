"""How the pool of a running instance is named on the command line: ``MODEL POOL`` or ``MODEL/POOL``."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.common import call
from pipeline.errors import InputError

__all__ = ["ModelArgument", "PoolArgument", "named_pool"]

ModelArgument = Annotated[str, typer.Argument(help="Model as the events name it, or MODEL/POOL.")]
PoolArgument = Annotated[str | None, typer.Argument(help="Pool of that model; without it what MODEL/POOL says.")]

_DEFAULT = "default"


def named_pool(url: str, model: str, pool: str | None) -> tuple[str, str]:
    """Return model and pool; names of models have slashes too, so the instance is asked which pools it knows.

    Raises:
        InputError: both readings of the name are pools of the instance.
        ServerUnavailable: nobody answers at ``url``.
    """
    if pool is not None:
        return model, pool
    split, _, last = model.rpartition("/")
    if not split or not last:
        return model, _DEFAULT
    known = _known(url) & {(model, _DEFAULT), (split, last)}
    if len(known) > 1:
        raise InputError(
            f"{model!r} is the pool {_DEFAULT!r} of the model {model!r} and the pool {last!r} of the model {split!r}; "
            "give model and pool as two arguments"
        )
    return next(iter(known), (split, last))


def _known(url: str) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    cursor: str | None = None
    while True:
        data = call(url, "/v1/pools", cursor=cursor)
        try:
            found |= {(pool["model"], pool["pool"]) for pool in data["pools"]}
        except (KeyError, TypeError) as error:
            raise InputError(f"{url} did not list its pools") from error
        cursor = data.get("next_cursor")
        if not cursor:
            return found
