"""``tokentide doctor``: checks one by one what has to be right before a run."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

import pipeline
from pipeline.cli.common import (
    EXIT_FINDINGS,
    ConfigOption,
    Output,
    OutputOption,
    clean_errors,
    counted,
    emit,
    settings_from,
)
from pipeline.cli.config import check_pools, folded_names
from pipeline.config.settings import Settings
from pipeline.errors import StoreLocked, TokentideError

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
        ("compression", _compression),
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
    if not (where.parent / "events" / "request_event.py").exists():
        raise TokentideError(
            f"the package `pipeline` at {where.parent} is not Tokentide's; install into an own environment"
        )
    return f"tokentide {pipeline.__version__}"


def _pools(settings: Settings) -> str:
    if not settings.pools:
        raise TokentideError("no pools are configured: demand will be forecast, but nothing sized")
    check_pools(settings)
    return "; ".join([f"{counted(len(settings.pools), 'pool')}, each can be planned for", *folded_names(settings)])


def _compression(settings: Settings) -> str:  # noqa: ARG001
    from pipeline.kafka.compression import HOW_TO_INSTALL, codec_problems

    problems = codec_problems()
    if problems:
        named = "; ".join(f"{name}: {reason}" for name, reason in problems.items())
        raise TokentideError(f"batches of some codecs would become dead letters ({named}); {HOW_TO_INSTALL}")
    return "gzip, lz4, snappy and zstd can be read"


def _kafka(settings: Settings) -> str:
    from pipeline.kafka.acls import denied_operations
    from pipeline.kafka.security import admin_client
    from pipeline.kafka.topics import check_delta_limits, described, mismatch, needed_topics, topic_specs

    kafka, sources, inputs = settings.kafka, settings.source_topics(), settings.forecast.exogenous_topics()
    security = kafka.security
    started = time.monotonic()
    with admin_client(kafka, "doctor", 10.0) as admin:
        counts = described(admin, kafka, needed_topics(kafka, sources, inputs))
        took = time.monotonic() - started
        deltas = [topic for topic in kafka.deltas_topics() if topic in counts]
        notes = check_delta_limits(admin, deltas)
        denied = denied_operations(admin, kafka, sources, inputs)
    if denied:
        raise TokentideError(f"an ACL denies {', '.join(denied)} (docs/kafka.md lists what is needed)")
    missing = [topic for topic in needed_topics(kafka, sources, inputs) if topic not in counts]
    if missing and not kafka.create_topics:
        raise TokentideError(f"{kafka.bootstrap} answers, but has no topic {', '.join(missing)}")
    requests = max((counts[topic] for topic in sources if topic in counts), default=kafka.partitions)
    for topic in deltas:
        problem = mismatch(kafka, topic, counts[topic], requests)
        if problem:
            raise TokentideError(problem)
        if counts[topic] < requests:
            notes.append(f"{topic} will get {requests} partitions, as the topic of events has")
    if missing:
        sizes = {spec.name: spec.partitions for spec in topic_specs(kafka, sources, inputs)} | dict.fromkeys(
            kafka.deltas_topics(), requests
        )
        notes.append(f"will be created: {', '.join(f'{topic} ({sizes[topic]} partitions)' for topic in missing)}")
    if security.mechanism == "PLAIN" and not security.uses_tls:
        notes.append("the password crosses the network in clear: use kafka.security.protocol SASL_SSL")
    how = security.protocol if security.mechanism is None else f"{security.protocol}, {security.mechanism}"
    return "; ".join([f"{kafka.bootstrap} answers in {took * 1000:.0f} ms ({how})", *notes])


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
