"""Kafka servers for the tests: the embedded broker, and Apache Kafka itself from its Maven artefacts (KRaft mode)."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from pipeline.config.settings import KafkaSettings, Settings, load
from pipeline.errors import ServerUnavailable
from pipeline.kafka.embedded_broker import free_port, wait_for_kafka
from pipeline.kafka.partition_reader import log_bounds, partition_reader, read_records
from pipeline.kafka.security import aiokafka_options
from pipeline.kafka.topics import ensure_topics
from pipeline.prctl import death_signal
from tests.kafka_secured import SecuredListeners
from tests.waiting import scaled

KAFKA_VERSION = "4.0.0"  # as in docker-compose.yml
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>tokentide</groupId><artifactId>kafka-for-tests</artifactId><version>1</version><dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
</dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version></dependency>
</dependencies></project>"""


class KafkaMissingError(Exception):
    """Apache Kafka cannot be run here; the text says what is missing."""


def apache_jars() -> Path:
    """The folder with Kafka's jars, fetched through Maven once and kept in the temporary folder."""
    folder = Path(tempfile.gettempdir()) / f"tokentide-kafka-{KAFKA_VERSION}"
    if (folder / "complete").exists():
        return folder
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise KafkaMissingError(f"{program} is not installed")
    work = Path(tempfile.mkdtemp(prefix="tokentide-kafka-"))
    (work / "pom.xml").write_text(_POM)
    command = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={work / 'libs'}"]
    try:
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=scaled(240), check=False)
    except subprocess.TimeoutExpired as error:
        raise KafkaMissingError("Maven did not fetch Kafka's jars in time") from error
    if done.returncode:
        raise KafkaMissingError(f"Maven cannot fetch Kafka's jars: {done.stdout.strip()[-300:]}")
    (work / "complete").touch()
    try:
        work.rename(folder)
    except OSError:  # another test process was quicker
        shutil.rmtree(work, ignore_errors=True)
    return folder


class ApacheKafka:
    """One broker and controller in one Java process, with its log in a temporary folder; a context manager.

    Args:
        properties: makes the lines of server.properties of these ports (clients', controller's) and a folder for the
            log; None: those below.
    """

    def __init__(self, properties: Callable[[int, int, Path], list[str]] | None = None) -> None:
        self._properties = properties
        self._jars = apache_jars() / "libs"
        self._folder = Path(tempfile.mkdtemp(prefix="tokentide-kafka-log-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._port, self._controller = free_port(), free_port()
        self.bootstrap = f"127.0.0.1:{self._port}"
        self.secured = SecuredListeners()

    def __enter__(self) -> ApacheKafka:
        config = self._folder / "server.properties"
        if self._properties is not None:
            config.write_text("\n".join(self._properties(self._port, self._controller, self._folder / "log")))
            self._format(config)
            self.start()
            return self
        secured = self.secured.listeners()
        public = ",".join([f"PLAINTEXT://{self.bootstrap}", *(f"{name}://{at}" for name, (at, _) in secured.items())])
        protocols = ",".join(f"{name}:{protocol}" for name, (_, protocol) in secured.items())
        config.write_text(
            "\n".join(
                [
                    "process.roles=broker,controller",
                    "node.id=1",
                    f"controller.quorum.voters=1@127.0.0.1:{self._controller}",
                    f"listeners={public},CONTROLLER://127.0.0.1:{self._controller}",
                    f"advertised.listeners={public}",
                    "controller.listener.names=CONTROLLER",
                    f"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,{protocols}",
                    *self.secured.properties(self._folder),
                    f"log.dirs={self._folder / 'log'}",
                    "offsets.topic.replication.factor=1",
                    "offsets.topic.num.partitions=1",
                    "transaction.state.log.replication.factor=1",
                    "transaction.state.log.num.partitions=1",
                    "transaction.state.log.min.isr=1",
                    "group.initial.rebalance.delay.ms=0",
                    "group.min.session.timeout.ms=1000",
                    "message.max.bytes=10485760",
                    "log.retention.check.interval.ms=500",
                    "log.cleaner.backoff.ms=500",
                    "auto.create.topics.enable=false",
                ]
            )
        )
        self._format(config, *self.secured.users())
        self.start()
        return self

    def _format(self, config: Path, *users: str) -> None:
        # The first byte is 0, so that the id never starts with "-", which the tool would take for an option.
        cluster = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        self._java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config), *users)

    def _java(self, *arguments: str) -> str:
        command = ["java", "-Xmx128m", "-cp", f"{self._jars}/*", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=scaled(60), check=True).stdout

    def start(self) -> None:
        command = ["java", "-Xmx512m", "-Xms128m", "-XX:TieredStopAtLevel=1", "-cp", f"{self._jars}/*"]
        command += ["kafka.Kafka", str(self._folder / "server.properties")]
        with (self._folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=death_signal(),  # noqa: PLW1509
            )
        try:
            wait_for_kafka(self.bootstrap, scaled(60.0), self._process)
        except ServerUnavailable as error:
            words = (self._folder / "output").read_text(errors="replace")[-500:]
            raise KafkaMissingError(f"Apache Kafka does not start: {error}: {words}") from error

    def stop(self) -> None:
        """End it in order; its log stays for another ``start``."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(scaled(30))
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def kill(self) -> None:
        """SIGKILL; what it had acknowledged is in its log, unless the machine dies too."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def pause(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def stream_settings(bootstrap: str, folder: Path, partitions: int = 4, **sections: Any) -> Settings:
    """Settings with topics and groups of their own on ``bootstrap``; the topics exist when this returns."""
    own = uuid.uuid4().hex[:8]
    topics = ("requests", "deltas", "windows", "forecasts", "recommendations", "alerts", "replicas", "dead_letters")
    kafka = {
        "bootstrap": bootstrap,
        "partitions": partitions,
        "group_prefix": f"test-{own}",
        "session_timeout_seconds": 6.0,
        **{f"{name}_topic": f"{name}-{own}" for name in topics},
        **sections.pop("kafka", {}),
    }
    stream = {
        "heartbeat_seconds": 0.5,
        "instance_id": "one",
        "shutdown_seconds": scaled(10.0),
        **sections.pop("stream", {}),
    }
    windows = {"allowed_lateness_seconds": 20.0, **sections.pop("windows", {})}
    store = {"path": folder / f"{own}.duckdb", **sections.pop("store", {})}
    publish = {"port": 0, **sections.pop("publish", {})}
    settings = load(None, kafka=kafka, stream=stream, windows=windows, store=store, publish=publish, **sections)
    ensure_topics(settings.kafka)
    return settings


async def produce(
    kafka: str | KafkaSettings, topic: str, records: Iterable[tuple[int, bytes | None]], **settings: Any
) -> None:
    """Write (partition, value) records in order and wait until the broker has them."""
    options = aiokafka_options(KafkaSettings(bootstrap=kafka) if isinstance(kafka, str) else kafka)
    producer = AIOKafkaProducer(**options, linger_ms=5, max_request_size=20_000_000, **settings)
    await producer.start()
    try:
        pending = [
            await producer.send(topic, value, key=b"k" if value is None else None, partition=partition)
            for partition, value in records
        ]
        await asyncio.gather(*pending)
    finally:
        await producer.stop()


async def consume(kafka: str | KafkaSettings, topic: str, partitions: Sequence[int] = (0,)) -> list[Any]:
    """All records that the partitions hold now, partition by partition."""
    records = []
    settings = KafkaSettings(bootstrap=kafka) if isinstance(kafka, str) else kafka
    for partition in partitions:
        async with partition_reader(settings, topic, partition) as (reader, tp):
            begin, end = await log_bounds(reader, tp)
            if end > begin:
                records += await read_records(reader, tp, begin, end)
    return records
