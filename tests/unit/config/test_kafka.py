from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.config.kafka import KafkaSecuritySettings
from pipeline.config.settings import KafkaSettings, load

SASL = {"protocol": "SASL_SSL", "mechanism": "SCRAM-SHA-512", "username": "u", "password": "hush-hush"}
TOKEN = {"protocol": "SASL_SSL", "mechanism": "OAUTHBEARER"}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"protocol": "SSL"},
        {"protocol": "SSL", "ca_file": "ca.pem", "certificate_file": "c.pem", "key_file": "k.pem", "key_password": "x"},
        SASL,
        {"protocol": "SASL_PLAINTEXT", "mechanism": "PLAIN", "username": "u", "password_file": "p"},
        {**TOKEN, "token_file": "t", "token_extensions": {"logicalCluster": "lkc-1"}},
        {**TOKEN, "token_url": "https://idp/token", "token_client_id": "c", "token_client_secret": "s"},
        {**TOKEN, "token_url": "http://127.0.0.1:1/t", "token_client_id": "c", "token_client_secret_file": "s"},
    ],
)
def test_what_fits_together_is_taken_and_survives_an_override(given: dict[str, Any]) -> None:
    kafka = KafkaSettings(security=KafkaSecuritySettings(**given))
    assert KafkaSettings.model_validate(kafka.model_dump()) == kafka


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ca_file": "ca.pem"}, "ca_file without protocol SSL or SASL_SSL: protocol is PLAINTEXT"),
        ({"check_hostname": False}, "check_hostname without protocol SSL"),
        ({"protocol": "SSL", "key_file": "k"}, "key_file without certificate_file"),
        ({"protocol": "SSL", "username": "u"}, "username without protocol SASL_SSL"),
        ({"protocol": "SASL_SSL"}, "needs a mechanism"),
        ({"protocol": "SASL_SSL", "mechanism": "GSSAPI"}, "mechanism"),
        ({**SASL, "username": None}, "needs a username"),
        ({**SASL, "password": None}, "neither is set"),
        ({**SASL, "password_file": "p"}, "password and password_file are both set"),
        ({**SASL, "token_file": "t"}, "token_file without mechanism OAUTHBEARER"),
        ({**TOKEN, "token_file": "t", "password": "hush-hush"}, "password without mechanism PLAIN"),
        (TOKEN, "exactly one of token_file and token_url"),
        ({**TOKEN, "token_file": "t", "token_scope": "s"}, "token_scope without token_url"),
        ({**TOKEN, "token_url": "http://idp/token"}, "must be an https address"),
        ({**TOKEN, "token_url": "https://u:p@idp/t"}, "must not hold credentials"),
        ({**TOKEN, "token_url": "https://idp/token"}, "needs a token_client_id"),
        ({"protocol": "SSL", "cafile": "x"}, "cafile"),
    ],
)
def test_what_has_no_effect_or_is_missing_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as error:
        KafkaSecuritySettings(**given)
    assert "hush-hush" not in "; ".join(str(e["msg"]) for e in error.value.errors())


def test_the_environment_gives_a_secret_and_no_dump_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "t.toml"
    file.write_text(
        '[kafka.security]\nprotocol = "SASL_SSL"\nmechanism = "PLAIN"\nusername = "u"\npassword = "from the file"\n'
    )
    monkeypatch.setenv("TOKENTIDE_KAFKA__SECURITY__PASSWORD", "hush-hush")
    settings = load(file, kafka={"bootstrap": "b:1"})
    password = settings.kafka.security.password
    assert password is not None
    assert password.get_secret_value() == "hush-hush"
    assert "hush-hush" not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_a_refused_secret_is_not_part_of_the_error(tmp_path: Path) -> None:
    from pipeline.errors import ConfigError

    file = tmp_path / "t.toml"
    file.write_text('[kafka.security]\nprotocol = "SSL"\nusername = "u"\npassword = "hush-hush"\n')
    with pytest.raises(ConfigError, match=r"kafka\.security: username, password without") as error:
        load(file)
    assert "hush" not in str(error.value)
