"""Answers received in place, compared with what was sent, however the network cuts it."""

from __future__ import annotations

import asyncio
import gc
import shutil
import ssl
import struct
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import conn as aiokafka_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.fetch import FetchRequest, FetchResponse_v4
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.kafka import frames
from pipeline.stream.kafka.frames import FrameConnection, FrameProtocol, missing_names, receive_in_place
from tests.certificates import make_certificates

FETCH_API, VERSIONS_API = 1, 18


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


@pytest.fixture
def in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AIOKafkaConnection", "AIOKafkaProtocol"):
        monkeypatch.setattr(aiokafka_conn, name, getattr(aiokafka_conn, name))  # put back afterwards
    receive_in_place()


def framed(*answers: bytes) -> bytes:
    return b"".join(struct.pack(">i", len(answer)) + answer for answer in answers)


def new_protocol() -> FrameProtocol:
    loop = asyncio.get_running_loop()
    return FrameProtocol(loop.create_future(), asyncio.StreamReader(loop=loop), loop=loop)


def receive(protocol: FrameProtocol, data: bytes, most: list[int]) -> None:
    """What a transport does, with at most so many bytes at a time, in turn."""
    turn = 0
    while data:
        buffer = protocol.get_buffer(-1)
        some = data[: min(len(buffer), most[turn % len(most)])]
        buffer[: len(some)] = some
        protocol.buffer_updated(len(some))
        data = data[len(some) :]
        turn += 1


SIZES = st.integers(0, 40) | st.sampled_from([4_095, 32 * 1024 - 4, 32 * 1024, 100_000])


@given(st.lists(SIZES, max_size=6), st.lists(st.integers(1, 9) | st.just(1 << 20), min_size=1, max_size=5))
def test_every_answer_is_received_as_it_was_sent(sizes: list[int], most: list[int]) -> None:
    answers = [bytes([i + 1]) * size for i, size in enumerate(sizes)]
    if sum(sizes) > 10_000:
        most = [1_000 * size for size in most]

    async def run() -> list[bytes]:
        protocol = new_protocol()
        receive(protocol, framed(*answers), most)
        return [await protocol.next_frame() for _ in answers]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "_PIECE_BYTES", 40_000)  # the longest ones come in pieces
        assert asyncio.run(run()) == answers


@in_a_loop
async def test_memory_is_not_asked_for_on_the_word_of_a_length() -> None:
    protocol = new_protocol()
    receive(protocol, b"HTTP/1.1 400 Bad Request", [1 << 20])  # as a length: 1.2 GB
    assert len(protocol.get_buffer(-1)) <= 16 << 20


@pytest.mark.parametrize("cut", [2, 4, 40_000])
@in_a_loop
async def test_the_end_within_an_answer_is_an_error_after_those_that_came_whole(cut: int) -> None:
    protocol = new_protocol()
    waiting = asyncio.ensure_future(protocol.next_frame())
    await asyncio.sleep(0)
    receive(protocol, framed(b"whole") + framed(b"x" * 100_000)[:cut], [1 << 20])
    protocol.eof_received()
    assert await waiting == b"whole"
    with pytest.raises(EOFError):
        await protocol.next_frame()


@in_a_loop
async def test_a_broken_connection_raises_what_broke_it() -> None:
    protocol = new_protocol()
    waiting = asyncio.ensure_future(protocol.next_frame())
    await asyncio.sleep(0)
    protocol.connection_lost(ConnectionResetError("gone"))
    with pytest.raises(ConnectionResetError):
        await waiting


@in_a_loop
async def test_a_length_below_zero_is_an_error() -> None:
    protocol = new_protocol()
    receive(protocol, framed(b"whole") + b"\xff\xff\xff\xff" + framed(b"not read"), [1 << 20])
    assert await protocol.next_frame() == b"whole"
    with pytest.raises(ValueError, match="-1 bytes"):
        await protocol.next_frame()


# ---- aiokafka's connection on it ------------------------------------------------------------------------------------


def fetched(correlation_id: int, records: bytes) -> bytes:
    response = FetchResponse_v4(0, [("t", [(0, 0, 7, 7, [], records)])])
    encoded: bytes = response.encode()
    return struct.pack(">i", correlation_id) + encoded


@asynccontextmanager
async def broker(records: list[bytes], tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Answers a fetch with the next of ``records`` and ends the connection within the answer when there is none."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                api, _, correlation_id = struct.unpack(">hhi", (await reader.readexactly(size))[:8])
                if api == VERSIONS_API:
                    versions = struct.pack(">ihihhh", correlation_id, 0, 1, FETCH_API, 4, 4)
                    writer.write(framed(versions))
                elif records:
                    writer.write(framed(fetched(correlation_id, records.pop(0))))
                else:
                    writer.write(framed(fetched(correlation_id, b"x" * 100_000))[:50_000])
                    break
                await writer.drain()
        except (EOFError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def request() -> Any:
    return FetchRequest(100, 1, 1 << 24, 0, [("t", [(0, 0, 1 << 24)])])


@pytest.mark.usefixtures("in_place")
@pytest.mark.parametrize("secured", [False, True])
@in_a_loop
async def test_fetched_records_come_over_sockets_and_tls(secured: bool, tmp_path: Path) -> None:
    records = [b"", bytes(range(256)) * 12_000, b"short", b"z" * (1 << 20)]
    server = client = None
    if secured:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        make_certificates(tmp_path)
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(tmp_path / "server.pem")
        client = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    async with broker(list(records), server) as port:
        conn = await aiokafka_conn.create_conn(
            "localhost", port, security_protocol="SSL" if secured else "PLAINTEXT", ssl_context=client
        )
        assert type(conn) is FrameConnection
        for expected in records:
            response = await conn.send(request())
            assert response.topics[0][1][0][-1] == expected
        ended = asyncio.ensure_future(conn.send(request()))  # no record is left: the broker goes away within an answer
        with pytest.raises(KafkaConnectionError):
            await ended
        assert not conn.connected()


@pytest.mark.usefixtures("in_place")
@in_a_loop
async def test_answers_that_are_asked_for_together_come_in_order() -> None:
    records = [b"1" * 50_000, b"2", b"3" * 200_000]
    async with broker(list(records)) as port:
        conn = await aiokafka_conn.create_conn("127.0.0.1", port)
        responses = await asyncio.gather(*(conn.send(request()) for _ in records))
        assert [response.topics[0][1][0][-1] for response in responses] == records
        await conn.close()


@pytest.mark.usefixtures("in_place")
@in_a_loop
async def test_a_connection_that_nobody_holds_goes_away() -> None:
    async with broker([]) as port:
        conn = await aiokafka_conn.create_conn("127.0.0.1", port)
        seen = weakref.ref(conn)
        held = [conn]
        del conn
        with pytest.warns(ResourceWarning):
            held.clear()
        gc.collect()
        assert seen() is None


def test_this_aiokafka_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for ours in (frames.FrameConnection, frames.FrameProtocol):  # another test may have put ours in their place
        monkeypatch.setattr(frames._conn, ours.__mro__[1].__name__, ours.__mro__[1])
    assert missing_names() == []
    receive_in_place()
    assert frames._conn.AIOKafkaConnection is frames.FrameConnection


def test_what_is_in_place_is_not_looked_at_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(frames._conn, "AIOKafkaConnection", frames.FrameConnection)
    monkeypatch.setattr(frames._conn, "AIOKafkaProtocol", frames.FrameProtocol)
    receive_in_place()
    assert not caplog.text


def test_another_aiokafka_is_left_alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    other = SimpleNamespace(AIOKafkaConnection=object(), AIOKafkaProtocol=object(), create_conn=lambda: None)
    assert missing_names(other)
    monkeypatch.setattr(frames, "_conn", other)
    monkeypatch.setattr(frames, "missing_names", lambda: ["AIOKafkaConnection._read"])
    before = dict(vars(other))
    receive_in_place()
    assert vars(other) == before
    assert "AIOKafkaConnection._read" in caplog.text
