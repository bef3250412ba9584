"""Where the requests of a pool are counted: the metrics of its router, and which of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from pipeline.errors import CodecError
from pipeline.extension_options import Options
from pipeline.fleet.router.selector import Selector

__all__ = ["RouterOptions"]

_Text = Annotated[str, Field(min_length=1, max_length=1_024)]


class RouterOptions(Options):
    """The metrics of the router of one pool: ``total`` a counter, ``running`` and ``queued`` gauges, as selectors.

    Every router that sends requests to the pool has to be among ``urls``; of an ``http`` URL each address of its host
    is asked, so that a headless Service stands for all its pods.
    """

    urls: Annotated[tuple[_Text, ...], Field(min_length=1, max_length=64)]
    total: _Text
    running: _Text | None = None
    queued: _Text | None = None
    #: A bearer token, read again for each request; sent to ``urls`` only.
    token_file: Path | None = None

    @field_validator("urls")
    @classmethod
    def _metrics_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
                raise ValueError(f"{url!r} is not an http or https URL of metrics")
            if parts.username is not None or parts.password is not None:
                raise ValueError("no user or password in the URL; token_file names the credentials")
        if len(set(urls)) < len(urls):
            raise ValueError("a URL is named twice: its requests would count twice")
        return urls

    @field_validator("total", "running", "queued")
    @classmethod
    def _selectors(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                Selector.of(text)
            except CodecError as error:
                raise ValueError(str(error)) from error
        return text
