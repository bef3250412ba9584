"""The options of the fleet ``kubernetes``: which object runs each pool, and how the API server is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from pipeline.extension_options import Options
from pipeline.fleet.router.options import RouterOptions
from pipeline.windows.types import PoolKey

__all__ = ["KubernetesOptions", "Target"]

#: Kinds with a scale subresource that need no ``api_version`` and ``resource``, and report ``status.readyReplicas``.
_KINDS = {
    "Deployment": ("apps/v1", "deployments"),
    "StatefulSet": ("apps/v1", "statefulsets"),
    "LeaderWorkerSet": ("leaderworkerset.x-k8s.io/v1", "leaderworkersets"),
}
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

#: Names go into paths of the API: what Kubernetes allows in them has no "/" (RFC 1123 subdomains of at most 253).
_DnsName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
_Text = Annotated[str, Field(min_length=1, max_length=256)]


class Target(Options):
    """One ``[[fleet.options.targets]]``: the object whose replicas are the replicas of one pool.

    A replica of a LeaderWorkerSet is one group (a leader and its workers), as one replica of a pool is.
    """

    model: _Text
    pool: _Text = "default"
    name: _DnsName
    namespace: _DnsName | None = None
    kind: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{0,62}$")] = "Deployment"
    api_version: Annotated[str, Field(pattern=r"^([a-z0-9][-a-z0-9.]{0,251}/)?v[a-z0-9]{1,30}$")] | None = None
    resource: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,62}$")] | None = None
    min_replicas: Annotated[int, Field(ge=0, le=100_000)] = 1
    max_replicas: Annotated[int, Field(ge=1, le=100_000)] | None = None
    #: Where the pool's requests are counted; None: they are not reported.
    router: RouterOptions | None = None

    @model_validator(mode="after")
    def _known_kind_and_limits(self) -> Target:
        if (self.api_version is None) != (self.resource is None):
            raise ValueError("api_version and resource go together; set both or none")
        if self.api_version is None and self.kind not in _KINDS:
            known = ", ".join(sorted(_KINDS))
            raise ValueError(f"kind {self.kind!r} needs api_version and resource; without them: {known}")
        if self.max_replicas is not None and self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas ({self.min_replicas}) must not exceed max_replicas ({self.max_replicas})")
        return self

    @property
    def key(self) -> PoolKey:
        """The pool."""
        return PoolKey(self.model, self.pool)

    @property
    def tells_ready(self) -> bool:
        """Whether ``status.readyReplicas`` counts the replicas that serve; the object leaves it out when it is 0."""
        return self.api_version is None

    def path(self, namespace: str) -> str:
        """Return the path of the object in the API; ``namespace`` is that of targets that name none."""
        version, resource = _KINDS[self.kind] if self.api_version is None else (self.api_version, self.resource)
        root = "apis" if "/" in version else "api"
        return f"/{root}/{version}/namespaces/{self.namespace or namespace}/{resource}/{self.name}"


class KubernetesOptions(Options):
    """The keys of ``fleet.options`` with ``fleet.source = "kubernetes"``; unknown ones are refused."""

    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=10_000)]
    namespace: _DnsName = "default"
    #: None: the API server of the cluster that Tokentide runs in (KUBERNETES_SERVICE_HOST and _PORT).
    server: str | None = None
    token_file: Path | None = _ACCOUNT / "token"
    ca_file: Path | None = _ACCOUNT / "ca.crt"
    every_seconds: Annotated[float, Field(gt=0, le=60)] = 15.0
    #: Of one request; scaling makes up to four, and has 30 seconds.
    timeout_seconds: Annotated[float, Field(gt=0, le=7)] = 5.0
    #: Changes are sent with ``dryRun=All``: the server checks and admits them, and keeps nothing.
    dry_run: bool = False
    #: One line of JSON for each decision; without it they are logged only.
    audit_file: Path | None = None

    @field_validator("server")
    @classmethod
    def _base_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{value!r} is not an http or https URL of an API server")
        if parts.username is not None or parts.password is not None:
            raise ValueError("no user or password in the URL; token_file names the credentials")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _once(self) -> KubernetesOptions:
        for what, names in (
            ("pool", [f"{t.model}/{t.pool}" for t in self.targets]),
            ("object", [t.path(self.namespace) for t in self.targets]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
            if twice:
                raise ValueError(f"targets name the same {what} twice: {', '.join(twice[:5])}")
        return self
