"""The errors that Tokentide raises on purpose.

::

    TokentideError
    ├── ConfigError            settings that cannot work (exit 78)
    ├── InputError             a file, a table or an argument that cannot be used (exit 2)
    ├── EventRejected          one record that cannot become a request event (dead letter, never a crash)
    ├── CodecError             bytes of our own topics that cannot be read back
    ├── StoreError             the window store
    │   ├── StoreLocked        another process owns the DuckDB file
    │   └── StoreTooNew        the file was written by a newer version
    ├── OffsetGap              deltas are missing between the stored position and the next delta
    └── ServerUnavailable      a broker or a port that cannot be had
"""

from __future__ import annotations

__all__ = [
    "CodecError",
    "ConfigError",
    "EventRejected",
    "InputError",
    "OffsetGap",
    "ServerUnavailable",
    "StoreError",
    "StoreLocked",
    "StoreTooNew",
    "TokentideError",
]


class TokentideError(Exception):
    """Root of every error raised on purpose; its text is one line that a user can act on."""


class ConfigError(TokentideError):
    """Settings that cannot work: unknown key, wrong type, impossible combination."""


class InputError(TokentideError):
    """A file, table or argument given by a user that cannot be used."""


class EventRejected(TokentideError):
    """One record that cannot become a request event.

    ``reason`` is one of ``pipeline.events.request_event.RejectReason``; ``detail`` says what was wrong with this
    record.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class CodecError(TokentideError):
    """Bytes of one of our own topics that cannot be read back."""


class StoreError(TokentideError):
    """The window store cannot do what was asked."""


class StoreLocked(StoreError):
    """Another process owns the DuckDB file."""


class StoreTooNew(StoreError):
    """The DuckDB file was written by a newer version of Tokentide."""


class OffsetGap(TokentideError):
    """Deltas are missing: the stored position of a partition is behind the next delta's first offset."""

    def __init__(self, topic: str, partition: int, stored: int, found: int) -> None:
        super().__init__(
            f"{topic}[{partition}]: stored position {stored}, but the next delta starts at {found}; "
            f"{found - stored} offsets are missing"
        )
        self.topic = topic
        self.partition = partition
        self.stored = stored
        self.found = found


class ServerUnavailable(TokentideError):
    """A broker, a port or a program that cannot be had."""
