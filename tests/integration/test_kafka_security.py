"""Every way to authenticate, through every client of ours, against Apache Kafka itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

from pipeline.config.settings import KafkaSettings
from pipeline.errors import ConfigError, ServerUnavailable
from pipeline.kafka.acls import denied_operations, needed_operations
from pipeline.kafka.security import admin_client
from pipeline.kafka.topics import ensure_topics
from tests.kafka_secured import LIMITED, LIMITED_PASSWORD, PASSWORD, SecuredListeners, unsecured_token
from tests.kafka_servers import consume, produce
from tests.waiting import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
def own_topics(request: pytest.FixtureRequest) -> dict[str, Any]:
    own = abs(hash(request.node.name)) % 10**8
    fields = [name for name in KafkaSettings.model_fields if name.endswith("_topic")]
    return {"partitions": 2, "group_prefix": f"sec-{own}", **{name: f"{name[:-6]}-{own}" for name in fields}}


@pytest.fixture
def token_endpoint() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            right = self.headers["Authorization"] == "Basic dG9rOnMlMjYlM0Q="  # tok:s%26%3D
            body = json.dumps({"access_token": unsecured_token(), "expires_in": 300}).encode()
            self.send_response(200 if right and "grant_type=client_credentials" in form else 401)
            self.end_headers()
            self.wfile.write(body if right else b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token"
    finally:
        server.shutdown()
        server.server_close()


def round_trip(kafka: KafkaSettings) -> None:
    """Topics through kafka-python, records through aiokafka."""
    ensure_topics(kafka)

    async def run() -> None:
        await produce(kafka, kafka.requests_topic, [(0, b"a"), (1, b"b")])
        assert [record.value for record in await consume(kafka, kafka.requests_topic, (0, 1))] == [b"a", b"b"]

    asyncio.run(run())


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "clear"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_passwords(secured_kafka: SecuredListeners, own_topics: dict[str, Any], mechanism: str, tls: bool) -> None:
    round_trip(KafkaSettings(**secured_kafka.sasl(mechanism, tls=tls), **own_topics))


def test_mutual_tls_with_an_encrypted_key(secured_kafka: SecuredListeners, own_topics: dict[str, Any]) -> None:
    round_trip(KafkaSettings(**secured_kafka.mutual_tls(), **own_topics))


def test_a_token_from_a_file(secured_kafka: SecuredListeners, own_topics: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "token").write_text(unsecured_token() + "\n")
    round_trip(KafkaSettings(**secured_kafka.sasl("OAUTHBEARER", token_file=tmp_path / "token"), **own_topics))


def test_a_token_from_an_endpoint(
    secured_kafka: SecuredListeners, own_topics: dict[str, Any], token_endpoint: str
) -> None:
    given = {"token_url": token_endpoint, "token_client_id": "tok", "token_client_secret": "s&="}
    round_trip(KafkaSettings(**secured_kafka.sasl("OAUTHBEARER", **given), **own_topics))
    wrong = KafkaSettings(**secured_kafka.sasl("OAUTHBEARER", **(given | {"token_client_secret": "no"})), **own_topics)
    with pytest.raises(ServerUnavailable, match="401"):
        ensure_topics(wrong, timeout_seconds=5.0)


def test_a_wrong_password_is_named_and_not_shown(secured_kafka: SecuredListeners, own_topics: dict[str, Any]) -> None:
    kafka = KafkaSettings(**secured_kafka.sasl("SCRAM-SHA-512", password="hush-hush"), **own_topics)
    with pytest.raises(ServerUnavailable, match=r"refuses user 'full' \(kafka.security: SASL_SSL, SCRAM-SHA-512") as e:
        ensure_topics(kafka, timeout_seconds=5.0)
    assert "hush" not in str(e.value)
    assert PASSWORD not in str(e.value)


def test_an_unknown_ca_is_named(secured_kafka: SecuredListeners, own_topics: dict[str, Any]) -> None:
    given = secured_kafka.sasl("PLAIN")
    del given["security"]["ca_file"]
    with pytest.raises(ServerUnavailable, match=r"kafka\.security\.ca_file"):
        ensure_topics(KafkaSettings(**given, **own_topics), timeout_seconds=5.0)


def test_what_an_acl_denies_is_named(secured_kafka: SecuredListeners, own_topics: dict[str, Any]) -> None:
    given = secured_kafka.sasl("SCRAM-SHA-256", username=LIMITED, password=LIMITED_PASSWORD)
    kafka = KafkaSettings(**given, **own_topics)
    with pytest.raises(ConfigError, match=r"an ACL denies user 'limited' .* on"):
        ensure_topics(kafka, timeout_seconds=5.0)


def test_every_right_that_is_missing_is_named(
    secured_kafka: SecuredListeners, apache_kafka: str, own_topics: dict[str, Any]
) -> None:
    """With Describe on everything, Read on the requests and on the aggregators' group."""
    full = KafkaSettings(bootstrap=apache_kafka, **own_topics)
    limited = KafkaSettings(
        **secured_kafka.sasl("SCRAM-SHA-256", username=LIMITED, password=LIMITED_PASSWORD), **own_topics
    )
    ensure_topics(full)
    topics, group = (ResourceType.TOPIC, needed_operations(full)), ResourceType.GROUP
    granted = [(topics[0], name, ACLOperation.DESCRIBE) for name in topics[1]]
    granted += [(topics[0], full.requests_topic, ACLOperation.READ)]
    granted += [(group, f"{full.group_prefix}-aggregate", ACLOperation.READ)]
    with admin_client(full, "test") as admin:
        admin.create_acls(
            [
                ACL(f"User:{LIMITED}", "*", operation, ACLPermissionType.ALLOW, ResourcePattern(kind, name))
                for kind, name, operation in granted
            ]
        )
        assert denied_operations(admin, full) == []
    found: set[str] = set()
    wanted = {
        f"READ and WRITE on topic {full.deltas_topic}",
        f"READ on topic {full.replicas_topic}",
        f"READ on topic {full.calendar_topic}",
        f"READ on consumer group {full.group_prefix}-control",
        *(
            f"WRITE on topic {name}"
            for name in (
                full.dead_letters_topic,
                full.windows_topic,
                full.forecasts_topic,
                full.recommendations_topic,
                full.alerts_topic,
            )
        ),
    }

    async def all_named() -> bool:
        found.clear()
        try:
            with admin_client(limited, "test") as admin:
                found.update(denied_operations(admin, limited))
        except ServerUnavailable:
            return False  # the broker does not apply ACLs at once
        return found == wanted

    asyncio.run(eventually(all_named, 30, "the rights of the limited user"))
