"""Settings of the HTTP API: where it is served, who may read, TLS."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

__all__ = ["PublishSettings"]


class PublishSettings(BaseModel):
    """Where the results are served. Bound to loopback unless told otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    host: str = "127.0.0.1"
    port: int = Field(default=8321, ge=0, le=65_535)
    bearer_token: SecretStr | None = Field(default=None, description="a token with every role")
    tokens_file: Path | None = Field(
        default=None, description="tokens and their roles, a line each: 'read TOKEN'; read again when it changes"
    )
    cors_origins: tuple[str, ...] = Field(
        default=(), description="origins whose pages may read in a browser, such as https://ops.example.com; '*': any"
    )
    tls_certificate_file: Path | None = Field(default=None, description="PEM, with its chain; needs tls_key_file")
    tls_key_file: Path | None = Field(default=None, description="PEM, without a passphrase")
    header_timeout_seconds: float = Field(
        default=20.0, ge=1, le=3_600, description="a connection without a complete request for so long is closed"
    )
    reports_folder: Path | None = Field(
        default=None, description="folder whose HTML reports the board lists and serves; left out: none"
    )
    keda_port: int | None = Field(
        default=None,
        ge=0,
        le=65_535,
        description="KEDA external scaler (gRPC), needs the extra keda; left out: not served",
    )
    keda_certificate_file: Path | None = Field(default=None, description="PEM of the external scaler, with its chain")
    keda_key_file: Path | None = Field(default=None, description="PEM, without a passphrase")
    keda_client_ca_file: Path | None = Field(
        default=None, description="PEM: the authority that KEDA's client certificate must come from"
    )

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not re.fullmatch(r"https?://[^/\s?#@]+", origin):
                raise ValueError(f"{origin!r} is not an origin; https://ops.example.com would do, without a path")
        return origins

    @model_validator(mode="after")
    def _certificate_and_key(self) -> PublishSettings:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file go together; set both or none")
        return self

    @model_validator(mode="after")
    def _keda_is_mutual_tls(self) -> PublishSettings:
        files = (self.keda_certificate_file, self.keda_key_file, self.keda_client_ca_file)
        if None in files and any(file is not None for file in files):
            raise ValueError(
                "keda_certificate_file, keda_key_file and keda_client_ca_file go together; set all three or none"
            )
        if self.keda_port is not None and None in files and not self._on_loopback():
            raise ValueError(
                f"keda_port on {self.host} needs keda_certificate_file, keda_key_file and keda_client_ca_file: KEDA has"
                " no tokens for external scalers, so its certificate is what tells it from others"
            )
        return self

    def keda_tls_files(self) -> tuple[Path, Path, Path] | None:
        """Return certificate, key and clients' authority of the external scaler; None: no TLS, on loopback only."""
        if self.keda_certificate_file is None or self.keda_key_file is None or self.keda_client_ca_file is None:
            return None
        return self.keda_certificate_file, self.keda_key_file, self.keda_client_ca_file

    def open_to_all(self) -> bool:
        """Return whether other machines can read without a token."""
        return not self._on_loopback() and self.bearer_token is None and self.tokens_file is None

    def _on_loopback(self) -> bool:
        return self.host in ("localhost", "::1") or self.host.startswith("127.")
