"""Listeners with TLS and SASL for the Apache Kafka of the tests, with the certificates and users that they need."""

from __future__ import annotations

import base64
import json
import shutil
import time
from pathlib import Path
from typing import Any

from pipeline.kafka.embedded_broker import free_port
from tests.certificates import make_certificates

#: By mechanism: user and password. ``full`` may do everything, ``limited`` only what ACLs of a test allow.
USER, PASSWORD = "full", "full secret: ünïcode"
LIMITED, LIMITED_PASSWORD = "limited", "limited-secret"
KEY_PASSWORD = "key-secret"
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")


class SecuredListeners:
    """Addresses, server properties and client settings; the certificates are made by ``properties``.

    Without openssl there is none: ``available`` is False then.
    """

    def __init__(self) -> None:
        self.available = shutil.which("openssl") is not None
        self._ports = {name: free_port() for name in ("MTLS", "SASLTLS", "SASLPLAIN")}
        self._folder = Path()

    def listeners(self) -> dict[str, tuple[str, str]]:
        """Address and protocol by name of the listener."""
        protocols = {"MTLS": "SSL", "SASLTLS": "SASL_SSL", "SASLPLAIN": "SASL_PLAINTEXT"}
        names = protocols if self.available else {"SASLPLAIN": "SASL_PLAINTEXT"}
        return {name: (f"localhost:{self._ports[name]}", protocols[name]) for name in names}

    def users(self) -> list[str]:
        """Arguments of StorageTool that create the SCRAM users."""
        pairs = ((USER, PASSWORD), (LIMITED, LIMITED_PASSWORD))
        return [
            argument
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for user, password in pairs
            for argument in ("--add-scram", f"{mechanism}=[name={user},password={password}]")
        ]

    def properties(self, folder: Path) -> list[str]:
        """Lines of server.properties; makes the certificates in ``folder``."""
        self._folder = folder
        lines = [
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            f"super.users=User:ANONYMOUS;User:{USER};User:CN=client",
            f"sasl.enabled.mechanisms={','.join(_MECHANISMS)}",
        ]
        common = "org.apache.kafka.common.security"
        for name in ("sasltls", "saslplain"):
            prefix = f"listener.name.{name}"
            plain = f'user_{USER}="{_java(PASSWORD)}" user_{LIMITED}="{LIMITED_PASSWORD}"'
            lines += [
                f"{prefix}.plain.sasl.jaas.config={common}.plain.PlainLoginModule required {plain};",
                f"{prefix}.scram-sha-256.sasl.jaas.config={common}.scram.ScramLoginModule required;",
                f"{prefix}.scram-sha-512.sasl.jaas.config={common}.scram.ScramLoginModule required;",
                f"{prefix}.oauthbearer.sasl.jaas.config={common}.oauthbearer.OAuthBearerLoginModule required;",
            ]
        if self.available:
            make_certificates(folder, KEY_PASSWORD)
            lines += [
                "ssl.keystore.type=PEM",
                f"ssl.keystore.location={folder / 'server.pem'}",
                "ssl.truststore.type=PEM",
                f"ssl.truststore.location={folder / 'ca.crt'}",
                "listener.name.mtls.ssl.client.auth=required",
            ]
        return lines

    def mutual_tls(self) -> dict[str, Any]:
        """``[kafka]`` of a client with a certificate; its key is encrypted."""
        (self._folder / "key-password").write_text(f"{KEY_PASSWORD}\n")
        security = {
            "protocol": "SSL",
            "ca_file": self._folder / "ca.crt",
            "certificate_file": self._folder / "client.crt",
            "key_file": self._folder / "client.key",
            "key_password_file": self._folder / "key-password",
        }
        return {"bootstrap": f"localhost:{self._ports['MTLS']}", "security": security}

    def sasl(self, mechanism: str, *, tls: bool = True, **security: Any) -> dict[str, Any]:
        """``[kafka]`` of the user that may do everything, unless ``security`` says otherwise."""
        if mechanism != "OAUTHBEARER":
            security = {"username": USER, "password": PASSWORD} | security
        security |= {"protocol": "SASL_SSL" if tls else "SASL_PLAINTEXT", "mechanism": mechanism}
        if tls:
            security["ca_file"] = self._folder / "ca.crt"
        return {"bootstrap": f"localhost:{self._ports['SASLTLS' if tls else 'SASLPLAIN']}", "security": security}


def unsecured_token(user: str = USER, seconds: int = 3600) -> str:
    """A JWS without a signature (RFC 7515 appendix A.5), which the validator that Kafka ships for tests accepts."""
    now = int(time.time())
    parts = ({"alg": "none"}, {"sub": user, "iat": now, "exp": now + seconds})
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return ".".join([*encoded, ""])


def _java(text: str) -> str:
    """Text as a Java properties file has it: ISO 8859-1 with escapes."""
    return "".join(c if ord(c) < 128 else f"\\u{ord(c):04x}" for c in text)
