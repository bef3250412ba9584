"""``tokentide doctor``: checks one by one what has to be right before a run."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

import pipeline
from pipeline.cli.common import EXIT_FINDINGS, ConfigOption, Output, OutputOption, clean_errors, emit, settings_from
from pipeline.cli.config import check_pools
from pipeline.errors import ServerUnavailable, StoreLocked, TokentideError
from pipeline.settings import Settings

__all__ = ["doctor"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: its name, whether it holds, what was seen."""

    check: str
    ok: bool
    detail: str


@clean_errors
def doctor(config: ConfigOption = None, output: OutputOption = Output.TABLE) -> None:
    """Check installation, settings, Kafka, store and port. Example: tokentide doctor -c tokentide.toml"""
    settings = settings_from(config)
    checks: tuple[tuple[str, Callable[[Settings], str]], ...] = (
        ("installation", _installation),
        ("pools", _pools),
        ("kafka", _kafka),
        ("store", _store),
        ("port", _port),
    )
    findings = []
    for name, check in checks:
        try:
            findings.append(Finding(name, True, check(settings)))
        except (TokentideError, OSError) as error:
            findings.append(Finding(name, False, str(error)))
    rows = [(f.check, "ok" if f.ok else "PROBLEM", f.detail) for f in findings]
    emit(output, [asdict(f) for f in findings], ("check", "", "detail"), rows)
    if not all(f.ok for f in findings):
        raise typer.Exit(EXIT_FINDINGS)


def _installation(settings: Settings) -> str:  # noqa: ARG001
    """Another distribution may have put its own ``pipeline`` package in front of ours."""
    where = Path(pipeline.__file__ or "")
    if not (where.parent / "events" / "model.py").exists():
        raise TokentideError(
            f"the package `pipeline` at {where.parent} is not Tokentide's; install into an own environment"
        )
    return f"tokentide {pipeline.__version__}"


def _pools(settings: Settings) -> str:
    if not settings.pools:
        raise TokentideError("no pools are configured: demand will be forecast, but nothing sized")
    check_pools(settings)
    return f"{len(settings.pools)} pools, each can be planned for"


def _kafka(settings: Settings) -> str:
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    from pipeline.stream.topics import check_delta_limits, partition_counts

    kafka = settings.kafka
    started = time.monotonic()
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=kafka.bootstrap, request_timeout_ms=10_000, client_id="tokentide-doctor"
        )
        try:
            partitions = partition_counts(admin)
            notes = check_delta_limits(admin, [topic for topic in kafka.deltas_topics() if topic in partitions])
        finally:
            admin.close()
    except (KafkaError, OSError, ValueError) as error:
        raise ServerUnavailable(
            f"no Kafka broker answers on {kafka.bootstrap}: {error or type(error).__name__}"
        ) from error
    took = time.monotonic() - started
    missing = [t for t in (kafka.requests_topic, *kafka.deltas_topics()) if t not in partitions]
    if missing and not kafka.create_topics:
        raise TokentideError(f"{kafka.bootstrap} answers, but has no topic {', '.join(missing)}")
    for topic in kafka.deltas_topics():
        if not missing and partitions[kafka.requests_topic] != partitions[topic]:
            raise TokentideError(
                f"{kafka.requests_topic} has {partitions[kafka.requests_topic]} partitions and {topic} "
                f"{partitions[topic]}: they must have as many"
            )
    if missing:
        notes.append(f"{', '.join(missing)} will be created")
    return "; ".join([f"{kafka.bootstrap} answers in {took * 1000:.0f} ms", *notes])


def _store(settings: Settings) -> str:
    path = settings.store.path
    if not path.exists():
        if not path.resolve().parent.is_dir():
            raise TokentideError(f"the folder of {path} does not exist")
        return f"{path} will be created"
    from pipeline.store.store import Store

    try:
        store = Store.open(path, settings.store, settings.windows)
    except StoreLocked:
        return f"{path} is in use (one process owns the file)"
    try:
        closed = store.last_closed()
    finally:
        store.close()
    return f"{path} opens; last closed window ends at {closed}"


def _port(settings: Settings) -> str:
    host, port = settings.publish.host, settings.publish.port
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise TokentideError(f"{host}:{port} is taken ({error.strerror}); set publish.port") from error
    return f"{host}:{port} is free"
