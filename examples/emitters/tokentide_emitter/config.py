"""Settings of the emitters, from the environment of the server that they run in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["EmitterConfig"]

#: Event fields that describe the server; each is read from ``TOKENTIDE_<NAME>`` if that is set.
_LABELS = ("server_id", "cluster", "namespace", "region", "accelerator", "variant")
#: kafka-python's own arguments, by the environment variable that sets them.
_SECURITY = {
    "TOKENTIDE_KAFKA_SECURITY_PROTOCOL": "security_protocol",
    "TOKENTIDE_KAFKA_SASL_MECHANISM": "sasl_mechanism",
    "TOKENTIDE_KAFKA_SASL_USERNAME": "sasl_plain_username",
    "TOKENTIDE_KAFKA_SASL_PASSWORD": "sasl_plain_password",
    "TOKENTIDE_KAFKA_CA_FILE": "ssl_cafile",
    "TOKENTIDE_KAFKA_CERTIFICATE_FILE": "ssl_certfile",
    "TOKENTIDE_KAFKA_KEY_FILE": "ssl_keyfile",
}


@dataclass(frozen=True)
class EmitterConfig:
    """Where events go and what they have in common. ``labels`` are event fields that every event carries."""

    bootstrap: tuple[str, ...]
    pool: str = "default"
    topic: str = "inference.requests.v1"
    tenant_header: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> EmitterConfig | None:
        """Read the settings; None when ``TOKENTIDE_KAFKA`` is not set, which switches emitting off.

        ``TOKENTIDE_KAFKA_SASL_PASSWORD_FILE`` names a file that holds the password (a mounted secret).

        Raises:
            OSError: the password file cannot be read.
        """
        bootstrap = tuple(part.strip() for part in environment.get("TOKENTIDE_KAFKA", "").split(",") if part.strip())
        if not bootstrap:
            return None
        security: dict[str, Any] = {
            name: environment[variable] for variable, name in _SECURITY.items() if environment.get(variable)
        }
        password_file = environment.get("TOKENTIDE_KAFKA_SASL_PASSWORD_FILE")
        if password_file:
            security["sasl_plain_password"] = Path(password_file).read_text(encoding="utf-8").strip()
        header = environment.get("TOKENTIDE_TENANT_HEADER")
        return cls(
            bootstrap=bootstrap,
            pool=environment.get("TOKENTIDE_POOL") or "default",
            topic=environment.get("TOKENTIDE_TOPIC") or "inference.requests.v1",
            tenant_header=header.lower() if header else None,
            labels={
                name: environment[f"TOKENTIDE_{name.upper()}"]
                for name in _LABELS
                if environment.get(f"TOKENTIDE_{name.upper()}")
            },
            security=security,
        )
