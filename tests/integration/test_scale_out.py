"""Two aggregators and two sharded controllers as an operator starts them; each kind is killed under load; exact.

Once as processes of one machine, once on two "hosts": network namespaces that reach each other and the broker over a
bridge only, so that nothing can lean on a shared loopback (that needs root and ``ip``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config.settings import PoolSettings, Settings, to_environment
from pipeline.errors import ServerUnavailable
from pipeline.kafka.embedded_broker import find_binary, free_port, wait_for_kafka
from pipeline.prctl import death_signal
from pipeline.store.store import Store
from pipeline.testing import Oracle, request_event
from pipeline.testing.oracle import Contents, contents
from pipeline.windows.sharding import shard_of
from tests.kafka_servers import produce, stream_settings
from tests.waiting import eventually, scaled

pytestmark = pytest.mark.integration

PARTITIONS = 4
SHARDS = 2
#: A proxy of the environment knows nothing of the hosts made here.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
POOLS = [("m1", f"p{i}") for i in range(6)] + [("m2", "default")]


def stored_by_all(settings: Settings) -> Contents:
    """What the files of all shards hold together; each must hold the pools of its shard alone."""
    whole = Contents({}, {}, {}, {}, 0)
    ledger: Counter[str] = Counter()
    letters: Counter[str] = Counter()
    for shard in range(SHARDS):
        own = settings.for_shard(shard)
        with Store.open(own.store.path, own.store, own.windows) as store:
            held = contents(store)
            assert set(store.pools()) == {key for key in POOLS if shard_of(*key, SHARDS) == shard}
        assert not whole.rows.keys() & held.rows.keys()
        whole.rows |= held.rows
        whole.histograms |= held.histograms
        ledger.update(held.ledger)
        letters.update(held.dead_letters)
        whole.added_after_closing += held.added_after_closing
        whole.problems += held.problems
    whole.ledger, whole.dead_letters = dict(ledger), dict(letters)
    return whole


class Process:
    """One ``tokentide run``, on the host whose prefix is given."""

    def __init__(self, prefix: list[str], settings: Settings, log: Path, *arguments: str) -> None:
        self._command = [*prefix, sys.executable, "-m", "pipeline", "run", *arguments]
        self._environment = {**os.environ, **to_environment(settings)}
        self._log = log
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdout=log,
                stderr=log,
                preexec_fn=death_signal(signal.SIGKILL),  # noqa: PLW1509
            )

    def kill(self) -> None:
        assert self._process.poll() is None, self._log.read_text()[-2_000:]
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(scaled(40))
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class Feed:
    """Events over all pools and partitions, retries and poison among them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rng = random.Random(4)
        self.oracle = Oracle()

    async def send(self, count: int) -> None:
        records: list[tuple[int, bytes | None]] = []
        for _ in range(count):
            i = self.oracle.records
            model, pool = self._rng.choice(POOLS)
            at = time.time() - self._rng.random() * 5
            event = request_event(f"e{i}", at, model=model, pool=pool, input_tokens=i % 4_000, e2e_seconds=0.5)
            records.append((i % PARTITIONS, self.oracle.event(event)))
            if i % 503 == 0:
                records.append((i % PARTITIONS, self.oracle.event(event)))
            if i % 1_009 == 0:
                records.append((i % PARTITIONS, self.oracle.poison(b'{"broken', "malformed")))
        await produce(self._settings.kafka.bootstrap, self._settings.kafka.requests_topic, records)


def stored(addresses: list[str]) -> int:
    """Records in the ledgers of all shards; -1 where one does not answer."""
    total = 0
    for address in addresses:
        try:
            with DIRECT.open(f"{address}/v1/status", timeout=scaled(5)) as answer:
                total += int(json.load(answer)["ledger"]["records"])
        except (urllib.error.URLError, OSError, ValueError):
            return -1
    return total


async def until_stored(addresses: list[str], more_than: int) -> None:
    await eventually(
        lambda: stored(addresses) > more_than,
        120,
        f"{more_than + 1} records stored",
        progress=lambda: stored(addresses),
    )


def scale_out(bootstrap: str, folder: Path, hosts: list[list[str]], addresses: list[str]) -> None:
    ports = [free_port() for _ in range(SHARDS)]
    settings = stream_settings(
        bootstrap,
        folder,
        PARTITIONS,
        kafka={"shards": SHARDS},
        stream={"max_batch_records": 500, "dedupe_horizon_records": 2_000},
        store={"snapshot_every_steps": 2},
        windows={"grain_seconds": 10, "allowed_lateness_seconds": 10.0},
    )

    profile = {"profile": "llama-3.1-8b", "accelerator": "H100-SXM"}
    pools = tuple(PoolSettings(model=model, pool=pool, **profile) for model, pool in POOLS)
    settings = settings.model_copy(update={"pools": pools})

    def process(host: int, name: str, *arguments: str) -> Process:
        own = {
            "stream": settings.stream.model_copy(update={"instance_id": name}),
            "publish": settings.publish.model_copy(update={"host": addresses[host], "port": ports[host]}),
        }
        return Process(hosts[host], settings.model_copy(update=own), folder / f"{name}.log", *arguments)

    async def run() -> None:
        feed = Feed(settings)
        members = {f"aggregate-{i}": process(i, f"aggregate-{i}", "--stage", "aggregate") for i in range(2)}
        members |= {
            f"control-{i}": process(i, f"control-{i}", "--stage", "control", "--shard", f"{i}/{SHARDS}")
            for i in range(SHARDS)
        }
        urls = [f"http://{address}:{port}" for address, port in zip(addresses, ports, strict=True)]
        try:
            await feed.send(4_000)
            await until_stored(urls, 1_000)
            for victim in ("aggregate-1", "control-0", "aggregate-0"):
                sending = asyncio.create_task(feed.send(8_000))
                await asyncio.sleep(0.3)
                members[victim].kill()
                members[victim].start()
                await sending
                await until_stored(urls, feed.oracle.records - 4_000)
            await until_stored(urls, feed.oracle.records - 1)
            for shard, url in enumerate(urls):
                with DIRECT.open(f"{url}/v1/pools", timeout=scaled(5)) as answer:
                    shown = {(pool["model"], pool["pool"]) for pool in json.load(answer)["pools"]}
                assert shown == {key for key in POOLS if shard_of(*key, SHARDS) == shard}
        finally:
            codes = {name: member.stop() for name, member in members.items()}
        # Whoever was started again just before may still be starting, and then dies of the signal.
        failed = {name for name, code in codes.items() if code not in (0, -signal.SIGTERM)}
        assert not failed, {name: (folder / f"{name}.log").read_text()[-1_500:] for name in failed}
        assert feed.oracle.differences(stored_by_all(settings)) == []

    asyncio.run(run())


def test_two_aggregators_and_two_controllers_killed_in_turn(any_broker: str, tmp_path: Path) -> None:
    scale_out(any_broker, tmp_path, [[], []], ["127.0.0.1", "127.0.0.1"])


def test_the_wrong_number_of_shards_is_refused(any_broker: str, tmp_path: Path) -> None:
    settings = stream_settings(any_broker, tmp_path, kafka={"shards": SHARDS})
    for arguments, code, words in (
        (["--stage", "control"], 78, "--shard I/M"),
        (["--stage", "control", "--shard", "2/2"], 2, "I from 0 to M - 1"),
        (["--stage", "aggregate", "--shard", "0/2"], 2, "--stage control"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", "run", *arguments],
            env={**os.environ, **to_environment(settings)},
            capture_output=True,
            text=True,
            timeout=scaled(100),
            check=False,
        )
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr


#: Of this process alone: other runs on the machine have networks of their own.
NETWORK = f"10.231.{os.getpid() % 250 + 1}"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=scaled(20))


@pytest.fixture
def two_hosts() -> Iterator[tuple[list[list[str]], list[str], str]]:
    """Prefixes that run a command on each of two hosts, their addresses, and that of the machine with the broker."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the program ip")
    own = f"tt{os.getpid() % 10_000}"
    names = [f"{own}h{i}" for i in range(2)]
    try:
        try:
            ip("link", "add", f"{own}br", "type", "bridge")
            ip("addr", "add", f"{NETWORK}.1/24", "dev", f"{own}br")
            ip("link", "set", f"{own}br", "up")
            for i, name in enumerate(names):
                ip("netns", "add", name)
                ip("link", "add", f"{own}v{i}", "type", "veth", "peer", "name", "eth0", "netns", name)
                ip("link", "set", f"{own}v{i}", "master", f"{own}br", "up")
                ip("-n", name, "addr", "add", f"{NETWORK}.{i + 2}/24", "dev", "eth0")
                ip("-n", name, "link", "set", "eth0", "up")
                ip("-n", name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
        prefixes = [["ip", "netns", "exec", name] for name in names]
        yield prefixes, [f"{NETWORK}.{i + 2}" for i in range(2)], f"{NETWORK}.1"
    finally:
        for name in names:
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "del", name)
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("link", "del", f"{own}br")


def test_the_same_on_two_hosts(two_hosts: tuple[list[list[str]], list[str], str], tmp_path: Path) -> None:
    prefixes, addresses, server = two_hosts
    try:
        binary = find_binary()
    except ServerUnavailable as error:
        pytest.skip(str(error))
    bootstrap = f"{server}:{free_port()}"
    url = f"tcp://{bootstrap}"
    command = [binary, "--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "memory://tansu/"]
    with (tmp_path / "broker.log").open("wb") as log:
        broker = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=tmp_path,
            env={**os.environ, "RUST_LOG": "error"},
            preexec_fn=death_signal(),  # noqa: PLW1509
        )
    try:
        wait_for_kafka(bootstrap, scaled(30.0))
        scale_out(bootstrap, tmp_path, prefixes, addresses)
    finally:
        broker.terminate()
        broker.wait(scaled(10))
