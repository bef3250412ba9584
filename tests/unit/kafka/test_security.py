from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import faust
import pytest

from pipeline.config.settings import KafkaSettings
from pipeline.errors import ConfigError
from pipeline.kafka.security import aiokafka_options, explain, faust_options, kafka_python_options


def kafka(**security: Any) -> KafkaSettings:
    return KafkaSettings(bootstrap="one:1, two:2", security=security)


def password(**more: Any) -> KafkaSettings:
    return kafka(protocol="SASL_SSL", mechanism="SCRAM-SHA-256", username="u", **more)


def test_without_security_there_is_only_an_address() -> None:
    plain = {"bootstrap_servers": ["one:1", "two:2"], "security_protocol": "PLAINTEXT"}
    assert aiokafka_options(kafka()) == kafka_python_options(kafka()) == plain
    assert faust_options(kafka()) == {}


def test_a_password_is_read_from_its_file_each_time(tmp_path: Path) -> None:
    file = tmp_path / "password"
    for secret in ("first", "rotated ünïcode "):
        file.write_text(secret + "\n")
        options = aiokafka_options(password(password_file=file))
        assert options["sasl_plain_password"] == secret
        assert secret.strip() not in repr(options), "a client's configuration gets logged"
        assert faust_options(password(password_file=file))["broker_credentials"].password == secret


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), (b"", "empty"), (b"\xff\xfe", "UTF-8")])
def test_a_secret_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, why: str) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"kafka\.security\.password_file .*{why}"):
        aiokafka_options(password(password_file=file))


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_a_ca_that_cannot_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=r"kafka\.security\.ca_file"):
        aiokafka_options(kafka(protocol="SSL", ca_file=file))


def test_a_host_name_is_checked_unless_that_is_off() -> None:
    for checked in (True, False):
        context = aiokafka_options(kafka(protocol="SSL", check_hostname=checked))["ssl_context"]
        assert context.check_hostname is checked
        assert context.verify_mode.name == "CERT_REQUIRED", "the chain is always verified"
    assert isinstance(faust_options(kafka(protocol="SSL"))["broker_credentials"], faust.SSLCredentials)


def test_tokens_reach_all_three_clients(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("abc.def.ghi\n")
    settings = kafka(
        protocol="SASL_SSL", mechanism="OAUTHBEARER", token_file=file, token_extensions={"logicalCluster": "lkc-1"}
    )
    for provider in (
        aiokafka_options(settings)["sasl_oauth_token_provider"],
        faust_options(settings)["broker_credentials"].oauth_cb,
    ):
        assert asyncio.run(provider.token()) == "abc.def.ghi"
        assert provider.extensions() == {"logicalCluster": "lkc-1"}
    blocking = kafka_python_options(settings)["sasl_oauth_token_provider"]
    assert (blocking.token(), blocking.extensions()) == ("abc.def.ghi", {"logicalCluster": "lkc-1"})


def test_refusals_name_the_setting_and_never_a_secret() -> None:
    import aiokafka.errors
    import kafka.errors

    settings = password(password="hush-hush")
    for error in (
        aiokafka.errors.SaslAuthenticationFailed("no"),
        kafka.errors.SaslAuthenticationFailedError("no"),
        aiokafka.errors.TopicAuthorizationFailedError("t"),
        kafka.errors.GroupAuthorizationFailedError("g"),
    ):
        text = explain(error, settings)
        assert "user 'u'" in text
        assert "hush-hush" not in text
