"""A real Kubernetes control plane on this machine: etcd, kube-apiserver with RBAC, kube-controller-manager. No nodes.

Deployments make pods, which stay pending; a test says which are ready, as a kubelet would. All of it is on loopback.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import ssl
import subprocess
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode

from pipeline.kafka.embedded_broker import free_port
from tests.certificates import make_certificates
from tests.waiting import wait_until

__all__ = ["Cluster", "Refused"]

_CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "serviceaccount-controller",
    "root-ca-certificate-publisher-controller",
    "garbage-collector-controller",
    "horizontal-pod-autoscaler-controller",
)
_SECONDS = 120.0


class Refused(Exception):
    """The API server's answer to a request that it did not do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status


class Cluster:
    """A context manager; ``programs`` is the folder that ``build.sh`` filled, ``folder`` an empty one."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self.folder = folder
        self._etcd, self._port = free_port(), free_port()
        self._etcd_peers = free_port()
        self.url = f"https://localhost:{self._port}"
        self.ca_file = folder / "ca.crt"
        self.admin_token = secrets.token_hex(16)
        self.kubeconfig = folder / "kubeconfig"
        self._processes = contextlib.ExitStack()
        self._apiserver: subprocess.Popen[bytes] | None = None
        self._resources: dict[tuple[str, str], tuple[str, bool]] = {}

    def __enter__(self) -> Cluster:
        make_certificates(self.folder)
        key = ("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "accounts.key")
        subprocess.run(["openssl", *key], cwd=self.folder, check=True, capture_output=True)
        (self.folder / "tokens.csv").write_text(f'{self.admin_token},admin,admin,"system:masters"\n')
        policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"]}
        (self.folder / "audit.json").write_text(json.dumps({**policy, "rules": [{"level": "Metadata"}]}))
        self._write_kubeconfig()
        with contextlib.ExitStack() as stack:
            stack.callback(self._processes.close)
            self._start_etcd()
            self.start_apiserver()
            self._start_controllers()
            wait_until(
                lambda: self._answers("/api/v1/namespaces/default/serviceaccounts/default"), _SECONDS, "accounts"
            )
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_apiserver()
        self._processes.close()

    # ---- processes --------------------------------------------------------------------------------------------------

    def start(self, program: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a program of the folder; it ends with the cluster, and its output is in ``folder``/``program``.log."""
        log = (self.folder / f"{program}.log").open("ab")
        self._processes.callback(log.close)
        process = subprocess.Popen(
            [str(self._programs / program), *arguments], stdout=log, stderr=subprocess.STDOUT, env=environment or None
        )
        self._processes.callback(_end, process)
        return process

    def log(self, program: str) -> str:
        """What a program has said last."""
        return (self.folder / f"{program}.log").read_text(errors="replace")[-4000:]

    def requests_for(self, path: str) -> int:
        """How many requests for paths that begin so the API server has answered."""
        with (self.folder / "audit.log").open(encoding="utf-8") as lines:
            return sum(f'"requestURI":"{path}' in line for line in lines)

    def _start_etcd(self) -> None:
        client, peers = f"http://127.0.0.1:{self._etcd}", f"http://127.0.0.1:{self._etcd_peers}"
        self.start(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
        )

    def start_apiserver(self) -> None:
        """Start the API server and wait until it is ready."""
        at = self.folder
        self._apiserver = self.start(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd}",
            f"--secure-port={self._port}",
            "--bind-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={at / 'server.crt'}",
            f"--tls-private-key-file={at / 'server.key'}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={at / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={at / 'accounts.key'}",
            f"--service-account-signing-key-file={at / 'accounts.key'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            f"--audit-log-path={at / 'audit.log'}",
            f"--audit-policy-file={at / 'audit.json'}",
            f"--requestheader-client-ca-file={self.ca_file}",
            "--requestheader-allowed-names=client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={at / 'client.crt'}",
            f"--proxy-client-key-file={at / 'client.key'}",
        )
        process = self._apiserver

        def ready() -> bool:
            assert process.poll() is None, self.log("kube-apiserver")
            return self._answers("/readyz")

        wait_until(ready, _SECONDS, "the API server")

    def stop_apiserver(self) -> None:
        """Stop the API server, as a crash would."""
        if self._apiserver is not None:
            self._apiserver.kill()
            self._apiserver.wait()

    def _start_controllers(self) -> None:
        self.start(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--authentication-kubeconfig={self.kubeconfig}",
            f"--authorization-kubeconfig={self.kubeconfig}",
            f"--controllers={','.join(_CONTROLLERS)}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            f"--cert-dir={self.folder / 'controllers'}",
            f"--root-ca-file={self.ca_file}",
            f"--service-account-private-key-file={self.folder / 'accounts.key'}",
            "--horizontal-pod-autoscaler-sync-period=1s",
        )

    def _write_kubeconfig(self) -> None:
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": self.admin_token}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "admin"}}],
            "current-context": "here",
        }
        self.kubeconfig.write_text(json.dumps(config))  # JSON is YAML

    # ---- the API ----------------------------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, body: Any = None, media_type: str = "application/json", **query: str
    ) -> Any:
        """Send one request as the administrator.

        Raises:
            Refused: the server answered that it will not.
        """
        url = f"{self.url}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Authorization": f"Bearer {self.admin_token}", "Content-Type": media_type}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(
                request, timeout=60, context=ssl.create_default_context(cafile=self.ca_file)
            ) as got:
                text = got.read()
        except HTTPError as error:
            raise Refused(error.code, error.read().decode(errors="replace")[:2000]) from error
        return json.loads(text) if text[:1] in (b"{", b"[") else text.decode()

    def get(self, path: str) -> Any:
        """Return the object at a path."""
        return self.request("GET", path)

    def _answers(self, path: str) -> bool:
        with contextlib.suppress(URLError, OSError, Refused):
            self.get(path)
            return True
        return False

    def apply(self, document: dict[str, Any], *, dry_run: bool = False, namespace: str = "default") -> dict[str, Any]:
        """Apply one manifest as ``kubectl apply --server-side`` does, unknown fields refused; return what was kept."""
        path = self.path(document, namespace)
        query = {"fieldManager": "test", "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        found: dict[str, Any] = self.request("PATCH", path, document, "application/apply-patch+yaml", **query)
        return found

    def wait_for_kind(self, definition: dict[str, Any]) -> None:
        """Wait until the API serves what a CustomResourceDefinition defines."""
        spec = definition["spec"]
        version = next(version["name"] for version in spec["versions"] if version["served"])
        path = f"/apis/{spec['group']}/{version}"

        def served() -> bool:
            with contextlib.suppress(Refused):
                return any(found["name"] == spec["names"]["plural"] for found in self.get(path)["resources"])
            return False

        wait_until(served, _SECONDS, definition["metadata"]["name"])

    def delete(self, document: dict[str, Any], namespace: str = "default") -> None:
        """Delete what a manifest describes."""
        self.request("DELETE", self.path(document, namespace))

    def path(self, document: dict[str, Any], namespace: str = "default") -> str:
        """Return where the API has what a manifest describes."""
        version, kind = document["apiVersion"], document["kind"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if (version, kind) not in self._resources:
            for found in self.get(root)["resources"]:
                if "/" not in found["name"]:
                    self._resources[version, found["kind"]] = (found["name"], found["namespaced"])
        resource, namespaced = self._resources[version, kind]
        metadata = document["metadata"]
        place = f"/namespaces/{metadata.get('namespace', namespace)}" if namespaced else ""
        return f"{root}{place}/{resource}/{metadata['name']}"

    def account_token(self, namespace: str, account: str) -> str:
        """Return a token of a service account, as the kubelet asks for one; it is valid for ten minutes."""
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return str(self.request("POST", path, asked)["status"]["token"])

    def make_ready(self, namespace: str, count: int) -> None:
        """Say of ``count`` pods of a namespace that they run and are ready, and of the others that they are not."""
        pods = sorted(
            self.get(f"/api/v1/namespaces/{namespace}/pods")["items"], key=lambda pod: pod["metadata"]["name"]
        )
        for number, pod in enumerate(pods):
            ready = "True" if number < count else "False"
            status = {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}
            path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}/status"
            with contextlib.suppress(Refused):  # it may have ended meanwhile
                self.request("PATCH", path, {"status": status}, "application/merge-patch+json")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
