"""Makes every connection to Kafka: the options of aiokafka, Faust and kafka-python from one section of settings.

Secrets are read from their files when a client is made, OAuth tokens for each connection, so that rotated ones are
taken up by the next connection. No secret is part of an error or a log line.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from pydantic import SecretStr

from pipeline.config.kafka import KafkaSecuritySettings
from pipeline.config.settings import KafkaSettings
from pipeline.errors import ConfigError, ServerUnavailable
from pipeline.kafka.tokens import TokenSource, TokenUnavailable

__all__ = ["admin_client", "aiokafka_options", "explain", "faust_options", "kafka_python_options", "servers"]

_MOST_SECRET_BYTES = 65_536
_PROBE_MILLISECONDS = 10_000

#: Another attempt would fail the same way.
_REFUSALS = (
    AuthenticationFailedError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
    TokenUnavailable,
    ssl.SSLError,
)


def servers(bootstrap: str) -> list[str]:
    """Split ``host:port,host:port`` into its addresses."""
    return [part.strip() for part in bootstrap.split(",") if part.strip()]


def aiokafka_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Address and security of an ``AIOKafkaConsumer`` or ``AIOKafkaProducer``.

    Raises:
        ConfigError: a file that the settings name cannot be read, or is not what it should be.
    """
    return {"bootstrap_servers": servers(kafka.bootstrap), **_security(kafka.security, _AsyncTokens)}


def kafka_python_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Address and security of a client of kafka-python.

    Raises:
        ConfigError: as for ``aiokafka_options``.
    """
    return {"bootstrap_servers": servers(kafka.bootstrap), **_security(kafka.security, _blocking_tokens)}


def faust_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Security of a ``faust.App`` (its address is part of the broker URL).

    Raises:
        ConfigError: as for ``aiokafka_options``.
    """
    import faust

    options = _security(kafka.security, _AsyncTokens)
    context = options.get("ssl_context")
    if not kafka.security.uses_sasl:
        return {"broker_credentials": faust.SSLCredentials(context)} if context is not None else {}
    if kafka.security.mechanism == "OAUTHBEARER":
        credentials = faust.OAuthCredentials(oauth_cb=options["sasl_oauth_token_provider"], ssl_context=context)
    else:
        credentials = faust.SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            mechanism=options["sasl_mechanism"],
            ssl_context=context,
        )
    return {"broker_credentials": credentials}


@contextlib.contextmanager
def admin_client(kafka: KafkaSettings, role: str, timeout_seconds: float = 30.0) -> Iterator[Any]:
    """A ``kafka.KafkaAdminClient``, closed at the end.

    Raises:
        ConfigError: as for ``aiokafka_options``.
        ServerUnavailable: no broker answers, it refuses the client, or an error of Kafka's left the block.
    """
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError as AdminError

    if kafka.security.protocol != "PLAINTEXT":
        _probe(kafka)
    try:
        admin = KafkaAdminClient(
            **kafka_python_options(kafka),
            client_id=f"tokentide-{role}",
            bootstrap_timeout_ms=int(timeout_seconds * 1000),
            request_timeout_ms=max(10_000, int(timeout_seconds * 1000)),
        )
    except (AdminError, OSError, ValueError) as error:
        raise ServerUnavailable(f"no Kafka broker on {kafka.bootstrap}: {explain(error, kafka)}") from error
    try:
        yield admin
    except AdminError as error:
        raise ServerUnavailable(f"{kafka.bootstrap}: {explain(error, kafka)}") from error
    finally:
        admin.close()


def explain(error: BaseException, kafka: KafkaSettings) -> str:
    """What an error of a Kafka client means, in one line; refused credentials and ACLs are named with their setting.

    Works for the errors of aiokafka and of kafka-python, which are different classes of the same names.
    """
    name, text = type(error).__name__, str(error) or type(error).__name__
    security = kafka.security
    user = f"user {security.username!r}" if security.username else "this client"
    if isinstance(error, ssl.SSLError) or "[SSL" in text:
        return f"TLS failed (kafka.security.ca_file, certificate_file): {text}"
    if "Authentication" in name or "Sasl" in name:
        return f"the broker refuses {user} (kafka.security: {security.protocol}, {security.mechanism}): {text}"
    if "AuthorizationFailed" in name:
        return f"an ACL denies {user} what is needed: {text}"
    return text


def _probe(kafka: KafkaSettings) -> None:
    """Open one connection with aiokafka, which names a refusal at once; kafka-python would only time out.

    Raises:
        ServerUnavailable: a broker refuses the client, or is none that this client trusts.
    """
    options = aiokafka_options(kafka)
    addresses = [address.rpartition(":") for address in options.pop("bootstrap_servers")]

    async def connect() -> None:
        for host, _, port in addresses:
            try:
                connection = await create_conn(
                    host.strip("[]"),
                    int(port),
                    client_id="tokentide",
                    request_timeout_ms=_PROBE_MILLISECONDS,
                    **options,
                )
            except (KafkaError, OSError, ValueError, TimeoutError) as error:
                if _is_refusal(error):
                    raise ServerUnavailable(f"{host}:{port}: {explain(error, kafka)}") from error
                continue  # not there (yet): kafka-python tries again for a while
            connection.close()
            return

    with ThreadPoolExecutor(1) as thread:  # the caller may have a running loop
        thread.submit(asyncio.run, connect()).result()


def _is_refusal(error: BaseException) -> bool:
    """Whether another attempt would fail the same way: credentials, certificates, tokens."""
    return isinstance(error, _REFUSALS) or isinstance(error.__cause__, ssl.SSLError) or "[SSL" in str(error)


class _Masked(str):
    """A secret that does not show in the ``repr`` of a client's configuration, which kafka-python logs."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'**********'"


def _security(security: KafkaSecuritySettings, tokens: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"security_protocol": security.protocol}
    if security.uses_tls:
        options["ssl_context"] = _tls_context(security)
    if security.uses_sasl:
        options["sasl_mechanism"] = security.mechanism
        if security.mechanism == "OAUTHBEARER":
            secret = _secret(security.token_client_secret, security.token_client_secret_file, "token_client_secret")
            options["sasl_oauth_token_provider"] = tokens(TokenSource(security, secret))
        else:
            options["sasl_plain_username"] = security.username
            options["sasl_plain_password"] = _secret(security.password, security.password_file, "password")
    return options


def _tls_context(security: KafkaSecuritySettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=security.ca_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(f"kafka.security.ca_file {security.ca_file}: {_why(error)}") from error
    context.check_hostname = security.check_hostname
    if security.certificate_file is not None:
        # Without a password OpenSSL would ask for one on the terminal.
        password = _secret(security.key_password, security.key_password_file, "key_password") or ""
        try:
            context.load_cert_chain(security.certificate_file, security.key_file, password)
        except (OSError, ValueError) as error:
            files = ", ".join(str(path) for path in (security.certificate_file, security.key_file) if path)
            raise ConfigError(f"kafka.security.certificate_file and key_file ({files}): {_why(error)}") from error
    return context


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _secret(given: SecretStr | None, path: Path | None, setting: str) -> str | None:
    """A secret from the settings or from its file, without the newline that editors put at its end."""
    if given is not None:
        return _Masked(given.get_secret_value())
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_SECRET_BYTES + 1)
        text = raw.decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"kafka.security.{setting}_file {path}: {reason}") from error
    if not text or len(raw) > _MOST_SECRET_BYTES:
        raise ConfigError(f"kafka.security.{setting}_file {path} is {'too large' if text else 'empty'}")
    return _Masked(text)


class _AsyncTokens(AbstractTokenProvider):  # type: ignore[misc]
    """Tokens as aiokafka asks for them; a request to the token endpoint does not block its loop."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    async def token(self) -> str:
        return await asyncio.get_running_loop().run_in_executor(None, self._source.token)

    def extensions(self) -> dict[str, str]:
        return dict(self._source.extensions)


def _blocking_tokens(source: TokenSource) -> Any:
    """Tokens as kafka-python asks for them (its base class is imported when it is needed only)."""
    from kafka.net.sasl.oauth import AbstractTokenProvider as Base

    class BlockingTokens(Base):  # type: ignore[misc]
        def token(self) -> str:
            return source.token()

        def extensions(self) -> dict[str, str]:
            return dict(source.extensions)

    return BlockingTokens()
