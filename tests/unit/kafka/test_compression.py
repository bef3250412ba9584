from __future__ import annotations

import pytest

from pipeline.kafka import compression
from pipeline.kafka.compression import codec_problems


def test_this_installation_reads_all_codecs() -> None:
    assert codec_problems() == {}


def test_a_codec_that_is_missing_or_broken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(data: bytes) -> bytes:
        raise RuntimeError("Lz4 codec is not available")

    codecs = {"lz4": (missing, missing), "zstd": (bytes, lambda _: b"other")}
    monkeypatch.setattr(compression, "_CODECS", codecs)
    assert codec_problems() == {"lz4": "Lz4 codec is not available", "zstd": "decodes to other bytes"}
