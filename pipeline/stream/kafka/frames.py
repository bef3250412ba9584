"""Answers of a broker, received straight into the bytes that aiokafka parses.

aiokafka reads through ``asyncio.StreamReader``: what ``recv`` returns is appended to one buffer and the answer is
copied out of it when it is whole. An answer begins with its length
(https://kafka.apache.org/40/documentation.html#protocol_common, 2026-12-01), so its bytes can be made beforehand and
the socket, or the TLS layer, asked to write into them.
``receive_in_place`` puts a connection and a protocol that do so in the place of aiokafka's; all else stays aiokafka's:
requests, SASL, time limits, idle connections, and what an answer means.
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections import deque
from typing import Any

from aiokafka import conn as _conn

__all__ = ["FrameConnection", "FrameProtocol", "missing_names", "receive_in_place"]

_log = logging.getLogger(__name__)

_LENGTH_BYTES = 4
#: Where lengths and short answers are received.
_SCRATCH_BYTES = 32 * 1024
#: No more memory is asked for at once, whatever length is announced: who answers may be no broker.
_PIECE_BYTES = 16 * 1024 * 1024


class FrameProtocol(_conn.AIOKafkaProtocol, asyncio.BufferedProtocol):  # type: ignore[misc]
    """aiokafka's protocol, which receives answers itself; its stream reader sees only the end of the connection.

    An answer that has not come whole is in ``_pieces`` and, its newest bytes, in ``_stream``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._in_scratch = True  # where the buffer that was handed out last lies
        self._length = bytearray()  # of the next answer, as far as it has come
        self._left = 0  # bytes of the answer that have no room yet
        self._pieces: list[bytes] = []
        self._stream: io.BytesIO | None = None
        self._room: memoryview | None = None  # of the stream
        self._filled = 0
        self._whole: deque[bytes] = deque()
        self._problem: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def next_frame(self) -> bytes:
        """The next answer without its length.

        Raises:
            asyncio.IncompleteReadError: the connection ended.
            ValueError: a length below zero.
            OSError: the connection broke.
        """
        while not self._whole:
            if self._problem is not None:
                raise self._problem
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._whole.popleft()

    # ---- what asyncio calls -------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where the next bytes belong."""
        self._in_scratch = self._room is None
        return self._scratch if self._room is None else self._room[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Note that so many bytes were written into the buffer that was handed out last."""
        if self._problem is not None:
            return
        try:
            if self._in_scratch:
                self._sort(self._scratch[:nbytes])
            else:
                self._advance(nbytes)
        except (ValueError, MemoryError) as error:
            self._fail(error)

    def eof_received(self) -> Any:
        """Note that nothing more comes."""
        keeps_open = super().eof_received()
        self._fail(asyncio.IncompleteReadError(b"", None))
        return keeps_open

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone."""
        super().connection_lost(exc)
        self._fail(asyncio.IncompleteReadError(b"", None) if exc is None else exc)

    # ---- answers ------------------------------------------------------------------------------------------------

    def _sort(self, data: memoryview) -> None:
        """Take lengths and answers, or their beginnings, out of received bytes."""
        at = 0
        while at < len(data):
            if self._room is None:
                some = data[at : at + _LENGTH_BYTES - len(self._length)]
                self._length += some
                at += len(some)
                if len(self._length) < _LENGTH_BYTES:
                    return
                size = int.from_bytes(self._length, "big", signed=True)
                self._length.clear()
                if size < 0:
                    raise ValueError(f"an answer of {size} bytes was announced")
                if size <= len(data) - at:
                    self._hand_over(bytes(data[at : at + size]))
                    at += size
                    continue
                self._left = size
                self._make_room()
            assert self._room is not None
            some = data[at : at + len(self._room) - self._filled]
            self._room[self._filled : self._filled + len(some)] = some
            at += len(some)
            self._advance(len(some))

    def _make_room(self) -> None:
        size = min(self._left, _PIECE_BYTES)
        self._left -= size
        # The stream takes the new bytes over, and gives them away below, without copying them.
        self._stream = io.BytesIO(bytes(size))
        self._room = self._stream.getbuffer()
        self._filled = 0

    def _advance(self, count: int) -> None:
        assert self._room is not None
        assert self._stream is not None
        self._filled += count
        if self._filled < len(self._room):
            return
        self._room.release()
        piece = self._stream.getvalue()
        self._room = self._stream = None
        if self._left:
            self._pieces.append(piece)
            self._make_room()
            return
        if self._pieces:
            piece = b"".join((*self._pieces, piece))
            self._pieces.clear()
        self._hand_over(piece)

    def _hand_over(self, frame: bytes) -> None:
        self._whole.append(frame)
        self._wake()

    def _fail(self, problem: BaseException) -> None:
        """Nothing more is taken; what came whole is still handed out."""
        if self._problem is None:
            self._problem = problem
        self._room = self._stream = None
        self._pieces.clear()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class FrameConnection(_conn.AIOKafkaConnection):  # type: ignore[misc]
    """aiokafka's connection, handing on the answers of a ``FrameProtocol``."""

    @staticmethod
    async def _read(self_ref: Any) -> None:
        connection = self_ref()
        if connection is None:
            return
        protocol = connection._protocol
        del connection  # a connection that nobody holds any more must go away
        while True:
            frame = await protocol.next_frame()
            connection = self_ref()
            if connection is None:
                return
            connection._handle_frame(frame)
            del connection, frame


def missing_names(module: Any = _conn) -> list[str]:
    """Names that this needs and that ``module`` (aiokafka's connections) does not use as known, sorted."""
    used = {
        "AIOKafkaConnection.connect": ("AIOKafkaProtocol", "_protocol", "_create_reader_task"),
        "AIOKafkaConnection._create_reader_task": ("_read",),
        "AIOKafkaConnection._read": ("_reader", "readexactly", "_handle_frame"),
        "AIOKafkaProtocol.__init__": ("_closed_fut",),
        "create_conn": ("AIOKafkaConnection",),
    }
    missing = []
    for path, names in used.items():
        found = module
        for part in path.split("."):
            found = getattr(found, part, None)
        code = getattr(found, "__code__", None)
        if code is None:
            missing.append(path)
        else:
            missing += [f"{path}: {name}" for name in names if name not in code.co_names]
    return sorted(missing)


def receive_in_place() -> None:
    """Let aiokafka's connections of this process, from the next one on, receive answers in place."""
    if _conn.AIOKafkaConnection is FrameConnection:
        return
    missing = missing_names()
    if missing:
        _log.warning("answers are read through aiokafka's own connections, which lack: %s", ", ".join(missing))
        return
    _conn.AIOKafkaConnection = FrameConnection
    _conn.AIOKafkaProtocol = FrameProtocol
