"""Certificates for tests of TLS, made with openssl: a CA, a server on localhost, a client."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.waiting import scaled

__all__ = ["make_certificates"]


def make_certificates(folder: Path, client_key_password: str | None = None) -> None:
    """Write ``ca``, ``server`` and ``client`` as ``.crt`` and ``.key`` into a folder, and ``server.pem`` with both."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=True, timeout=scaled(60))

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    openssl(
        *("req", "-x509", *curve, "-noenc", "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test CA")
    )
    secret = ("-noenc",) if client_key_password is None else ("-passout", f"pass:{client_key_password}")
    for name, more in (("server", ("-noenc",)), ("client", secret)):
        subject = "localhost" if name == "server" else "client"
        extension = ("-addext", "subjectAltName=DNS:localhost") if name == "server" else ()
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-days", "2", "-subj", f"/CN={subject}")
        openssl("req", "-x509", *curve, *more, "-keyout", f"{name}.key", "-out", f"{name}.crt", *signed, *extension)
    (folder / "server.pem").write_text((folder / "server.key").read_text() + (folder / "server.crt").read_text())
