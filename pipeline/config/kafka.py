"""``[kafka.security]``: how clients authenticate to the brokers, and the brokers to them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

__all__ = ["KafkaSecuritySettings"]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class KafkaSecuritySettings(BaseModel):
    """TLS and SASL, under Kafka's own names. Every secret can come from a file instead (``…_file``)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ca_file: Path | None = Field(default=None, description="PEM of the brokers' CA; unset: the CAs of the system")
    certificate_file: Path | None = Field(default=None, description="PEM chain of this client, for mutual TLS")
    key_file: Path | None = Field(default=None, description="PEM key of this client; unset: in certificate_file")
    key_password: SecretStr | None = None
    key_password_file: Path | None = None
    check_hostname: bool = Field(default=True, description="whether a broker's certificate must name its host")
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = None
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    token_file: Path | None = Field(default=None, description="file with the OAuth token; read for each connection")
    token_url: str | None = Field(default=None, description="OAuth 2.0 token endpoint, for client credentials")
    token_client_id: str | None = None
    token_client_secret: SecretStr | None = None
    token_client_secret_file: Path | None = None
    token_scope: str | None = None
    token_extensions: dict[str, str] = Field(
        default={}, description="SASL extensions sent with the token, as Confluent Cloud's logicalCluster"
    )

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def uses_sasl(self) -> bool:
        """Whether clients authenticate by SASL."""
        return self.protocol.startswith("SASL")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._check_tls()
        if not self.uses_sasl:
            self._refuse("protocol SASL_SSL or SASL_PLAINTEXT", *_SASL)
            return self
        if self.mechanism is None:
            raise ValueError(
                f"protocol {self.protocol} needs a mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"
            )
        if self.mechanism == "OAUTHBEARER":
            self._refuse("mechanism PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", *_PASSWORD)
            self._check_token()
        else:
            self._refuse("mechanism OAUTHBEARER", *_TOKEN)
            if not self.username:
                raise ValueError(f"mechanism {self.mechanism} needs a username")
            self._one_of("password", "password_file")
        return self

    def _check_tls(self) -> None:
        if not self.uses_tls:
            self._refuse("protocol SSL or SASL_SSL", *_TLS)
            return
        if self.certificate_file is None:
            self._refuse("certificate_file", "key_file", "key_password", "key_password_file")
        elif self.key_password is not None or self.key_password_file is not None:
            self._one_of("key_password", "key_password_file")

    def _check_token(self) -> None:
        self._one_of("token_file", "token_url")
        if self.token_url is None:
            self._refuse("token_url", *_TOKEN_REQUEST)
            return
        url = urlsplit(self.token_url)
        if not url.hostname or not (url.scheme == "https" or (url.scheme == "http" and url.hostname in _LOOPBACK)):
            raise ValueError(f"token_url {self.token_url!r} must be an https address (http for this machine only)")
        if url.username is not None or url.password is not None:
            raise ValueError("token_url must not hold credentials; set token_client_id and token_client_secret")
        if not self.token_client_id:
            raise ValueError("token_url needs a token_client_id")
        self._one_of("token_client_secret", "token_client_secret_file")

    def _one_of(self, first: str, second: str) -> None:
        given = [name for name in (first, second) if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"{first} and {second} are both set" if given else "neither is set"
            raise ValueError(f"set exactly one of {first} and {second}: {found}")

    def _refuse(self, needs: str, *names: str) -> None:
        """Settings that would have no effect are errors: the connection is not what its owner believes it to be."""
        given = [name for name in names if getattr(self, name) != type(self).model_fields[name].default]
        if given:
            raise ValueError(f"{', '.join(given)} without {needs}: protocol is {self.protocol}")


_PASSWORD = ("username", "password", "password_file")
_TOKEN_REQUEST = ("token_client_id", "token_client_secret", "token_client_secret_file", "token_scope")
_TOKEN = ("token_file", "token_url", *_TOKEN_REQUEST, "token_extensions")
_SASL = ("mechanism", *_PASSWORD, *_TOKEN)
_TLS = ("ca_file", "certificate_file", "key_file", "key_password", "key_password_file", "check_hostname")
