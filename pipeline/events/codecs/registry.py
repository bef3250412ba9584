"""The codecs that there are: the built-in ones, and those of the entry points ``tokentide.codecs``.

A codec of one's own is a class with the methods of ``base.Codec``, listed in its package's pyproject.toml::

    [project.entry-points."tokentide.codecs"]
    acme = "acme_tokentide:AcmeCodec"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from pipeline.errors import ConfigError
from pipeline.events.codecs.base import Codec

__all__ = ["AUTO", "BUILT_IN", "GROUP", "MAPPING", "codec_for", "codec_named", "codec_names"]

GROUP = "tokentide.codecs"
AUTO = "auto"
MAPPING = "mapping"

#: Name to module and class: imported when first used, since some need a library of their own. The order is that in
#: which ``auto`` asks them.
BUILT_IN: dict[str, str] = {
    "otlp_json": "otlp_json:OtlpJsonCodec",
    "otlp_proto": "otlp_proto:OtlpProtoCodec",
    "native": "native:NativeCodec",
    "litellm": "litellm:LiteLlmCodec",
    "envoy_ai_gateway": "envoy_ai_gateway:EnvoyAiGatewayCodec",
    "sglang": "sglang:SglangCodec",
    "dynamo": "dynamo:DynamoCodec",
    "openai_usage": "openai_usage:OpenAiUsageCodec",
}


def codec_names() -> list[str]:
    """Return every name that a source can be set to, sorted: built-in, ``auto``, ``mapping``, those of entry points."""
    return sorted({*BUILT_IN, AUTO, MAPPING, *(point.name for point in entry_points(group=GROUP))})


def codec_for(name: str, mapping: Mapping[str, Any] | None = None, defaults: Mapping[str, Any] | None = None) -> Codec:
    """Return the codec of a source.

    Args:
        name: one of ``codec_names()``.
        mapping: for ``mapping``: field to path or table (``mapping.parse_mapping``).
        defaults: values of event fields that records do not have.

    Raises:
        ConfigError: there is no such codec, it cannot be loaded, or the mapping cannot work.
    """
    from pipeline.events.codecs.mapping import MappingCodec, WithDefaults, parse_mapping

    codec: Codec = MappingCodec(parse_mapping(mapping or {})) if name == MAPPING else codec_named(name)
    given = {name: value for name, value in (defaults or {}).items() if value is not None}
    return WithDefaults(codec, given) if given else codec


@lru_cache(maxsize=64)
def codec_named(name: str) -> Codec:
    """Return the codec of that name.

    Raises:
        ConfigError: there is none, or it cannot be loaded.
    """
    if name == AUTO:
        from pipeline.events.codecs.auto import AutoCodec

        return AutoCodec()
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return _made(getattr(import_module(f"pipeline.events.codecs.{module}"), attribute), name)
    for point in entry_points(group=GROUP):
        if point.name == name:
            try:
                factory = point.load()
            except Exception as error:
                raise ConfigError(f"the codec {name!r} ({point.value}) cannot be loaded: {error}") from error
            return _made(factory, name)
    raise ConfigError(f"there is no codec {name!r}; there are {', '.join(codec_names())}")


def _made(factory: Callable[[], object], name: str) -> Codec:
    codec = factory()
    if not isinstance(codec, Codec):
        raise ConfigError(f"the codec {name!r} lacks name, title, recognises or decode (pipeline.events.codecs.base)")
    return codec
