"""Query parameters of the HTTP API: one object checks what a client sends and describes it in the OpenAPI document."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from aiohttp import web

from pipeline.publish.problem import ProblemError

__all__ = ["LARGEST_SECONDS", "Parameter", "choice", "seconds", "text", "whole"]

#: Times above that (the year 5138) are refused.
LARGEST_SECONDS = 99_999_999_999
MAX_TEXT = 2_048  # characters

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parameter(Generic[T]):
    """A query parameter: its name, its JSON Schema, how its text is read, and its value where it is left out.

    ``parse`` raises ValueError with what would do.
    """

    name: str
    schema: Mapping[str, Any]
    parse: Callable[[str], T]
    description: str = ""
    default: T | None = None
    required: bool = False

    def read(self, request: web.Request) -> T | None:
        """Return the value of the parameter; ``default`` where the request has none.

        Raises:
            ProblemError: 400, the text is no such value, or the parameter is given twice.
        """
        found = request.query.getall(self.name, ())
        if not found:
            return self.default
        if len(found) > 1:
            raise ProblemError(400, f"{self.name} is given {len(found)} times")
        try:
            return self.parse(found[0])
        except ValueError as error:
            raise ProblemError(400, f"{self.name} {error}") from error

    def described(self) -> dict[str, Any]:
        """Return the parameter as an OpenAPI object."""
        told = {"name": self.name, "in": "query", "required": self.required, "schema": dict(self.schema)}
        return told | ({"description": self.description} if self.description else {})


def whole(
    name: str, low: int, high: int, default: int | None = None, *, multiple_of: int = 1, description: str = ""
) -> Parameter[int]:
    """Return a parameter that is a whole number from ``low`` to ``high``, a multiple of ``multiple_of``."""

    def parse(value: str) -> int:
        digits = value.isascii() and value.isdigit() and len(value) <= 12
        if not digits or not low <= int(value) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        if int(value) % multiple_of:
            raise ValueError(f"must be a multiple of {multiple_of}")
        return int(value)

    schema: dict[str, Any] = {"type": "integer", "minimum": low, "maximum": high}
    schema |= {"multipleOf": multiple_of} if multiple_of != 1 else {}
    schema |= {} if default is None else {"default": default}
    return Parameter(name, schema, parse, description, default)


def seconds(name: str, description: str) -> Parameter[float]:
    """Return a parameter that is a time in epoch seconds."""

    def parse(value: str) -> float:
        try:
            number = float(value) if value.isascii() else math.nan
        except ValueError:
            number = math.nan
        if not 0 <= number <= LARGEST_SECONDS:
            raise ValueError("must be epoch seconds")
        return number

    return Parameter(name, {"type": "number", "minimum": 0, "maximum": LARGEST_SECONDS}, parse, description)


def choice(name: str, values: Iterable[str], default: str | None = None, description: str = "") -> Parameter[str]:
    """Return a parameter that is one of some words."""
    words = list(values)

    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return value

    schema: dict[str, Any] = {"enum": words} | ({} if default is None else {"default": default})
    return Parameter(name, schema, parse, description, default)


def text(
    name: str, description: str = "", *, max_length: int = MAX_TEXT, min_length: int = 0, required: bool = False
) -> Parameter[str]:
    """Return a parameter that is any text of ``min_length`` to ``max_length`` characters."""

    def parse(value: str) -> str:
        if not min_length <= len(value) <= max_length:
            raise ValueError(f"must have {min_length} to {max_length} characters")
        return value

    schema: dict[str, Any] = {"type": "string", "maxLength": max_length}
    schema |= {"minLength": min_length} if min_length else {}
    return Parameter(name, schema, parse, description, required=required)
