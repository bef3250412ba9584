"""Tables of prices in the files that users write: what a GPU costs, and what an API asks."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import Field, model_validator

from pipeline.config.located_toml import Section
from sizing.catalog import Price
from sizing.economics import ApiPrice
from sizing.errors import InvalidInput

__all__ = ["ApiSection", "Day", "Dollars", "GpuPriceSection", "Name", "api_prices", "named_api"]

Name = Annotated[str, Field(min_length=1, max_length=256)]
Dollars = Annotated[float, Field(gt=0, lt=1e6)]
TokenDollars = Annotated[float, Field(ge=0, lt=1e6)]
#: As TOML's own date, or as text: 2026-11-30, 2026-11.
Day = datetime.date | Annotated[str, Field(pattern=r"^\d{4}-\d{2}(-\d{2})?$")]


class GpuPriceSection(Section):
    """The price of one GPU for an hour, with who asks it and when it was read; or none."""

    dollars_per_gpu_hour: Dollars | None = None
    price_source: Name | None = None
    price_as_of: Day | None = None

    def own_price(self) -> Price:
        """Return the price that is given.

        Raises:
            InvalidInput: it has no source or no date.
        """
        if self.dollars_per_gpu_hour is None or self.price_source is None or self.price_as_of is None:
            raise InvalidInput(
                "dollars_per_gpu_hour needs price_source and price_as_of: who asks it, and when it was read"
            )
        return Price(self.dollars_per_gpu_hour, self.price_source, str(self.price_as_of))


class ApiSection(Section):
    """What an API asks per million tokens."""

    name: Name
    dollars_per_million_input_tokens: TokenDollars
    dollars_per_million_output_tokens: TokenDollars
    dollars_per_million_cached_input_tokens: TokenDollars | None = None
    batch_dollars_per_million_input_tokens: TokenDollars | None = None
    batch_dollars_per_million_output_tokens: TokenDollars | None = None
    price_source: Name
    price_as_of: Day

    @model_validator(mode="after")
    def _both_of_batch(self) -> ApiSection:
        given, got = self.batch_dollars_per_million_input_tokens, self.batch_dollars_per_million_output_tokens
        if (given is None) != (got is None):
            raise ValueError("the batch prices of input and of output tokens need each other")
        return self


def api_prices(sections: Iterable[ApiSection]) -> dict[str, ApiPrice]:
    """Return the prices of APIs by name."""
    return {
        entry.name: ApiPrice(
            entry.dollars_per_million_input_tokens,
            entry.dollars_per_million_output_tokens,
            entry.dollars_per_million_cached_input_tokens,
            entry.price_source,
            str(entry.price_as_of),
            entry.batch_dollars_per_million_input_tokens,
            entry.batch_dollars_per_million_output_tokens,
        )
        for entry in sections
    }


def named_api(name: str, prices: Mapping[str, ApiPrice]) -> ApiPrice:
    """Return one of the APIs.

    Raises:
        InvalidInput: there is none of that name.
    """
    if name not in prices:
        raise InvalidInput(f"api {name!r} is not one of the [[apis]]")
    return prices[name]
