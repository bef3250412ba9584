"""Which of Kafka's compression codecs this installation can read: aiokafka decodes all but gzip through cramjam."""

from __future__ import annotations

from collections.abc import Callable

from aiokafka import codec

__all__ = ["HOW_TO_INSTALL", "codec_problems"]

HOW_TO_INSTALL = "pip install 'cramjam>=2.8'"

_SAMPLE = b"tokentide " * 20
_CODECS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "gzip": (codec.gzip_encode, codec.gzip_decode),
    "lz4": (codec.lz4_encode, codec.lz4_decode),
    "snappy": (codec.snappy_encode, codec.snappy_decode),
    "zstd": (codec.zstd_encode, codec.zstd_decode),
}


def codec_problems() -> dict[str, str]:
    """Codecs that do not decode what they have encoded, with the reason; empty: all four work.

    >>> codec_problems()
    {}
    """
    problems = {}
    for name, (encode, decode) in _CODECS.items():
        try:
            if decode(encode(_SAMPLE)) != _SAMPLE:
                problems[name] = "decodes to other bytes"
        except Exception as error:  # whatever a missing or broken extension module raises
            problems[name] = str(error) or type(error).__name__
    return problems
