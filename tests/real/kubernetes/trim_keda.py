"""Cut a copy of KEDA 2.20's module down to what our ScaledObjects use: ``python trim_keda.py FOLDER``.

Left out are the scalers, secret stores and event sinks of clouds, which bring most of its dependencies. The operator,
the metrics adapter, the fallback, the executor and the scalers prometheus, metrics-api and external stay as they are.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

_SCALERS = {"scaler.go", "prometheus_scaler.go", "metrics_api_scaler.go", "external_scaler.go"}
_TRIGGERS = {"external", "external-push", "metrics-api", "prometheus"}
#: What the rest calls of the parts that are left out: never reached by our triggers, or an error.
_STUBS = {
    "pkg/scalers/absent.go": """
        package scalers

        const externalMetricType = "External" // of azure_queue_scaler.go
    """,
    "pkg/scalers/aws/absent.go": """
        package aws

        import "net/http"

        func NewSigV4RoundTripper(...any) (http.RoundTripper, error) { return nil, nil }
    """,
    "pkg/scalers/azure/absent.go": """
        package azure

        import "net/http"

        func TryAndGetAzureManagedPrometheusHTTPRoundTripper(...any) (http.RoundTripper, error) { return nil, nil }
    """,
    "pkg/scalers/gcp/absent.go": """
        package gcp

        import (
            "errors"
            "net/http"
        )

        const GcpScopeMonitoringRead = ""

        var ErrGoogleApplicationCrendentialsNotFound = errors.New("not built")

        func GetGCPOAuth2HTTPTransport(...any) (http.RoundTripper, error) {
            return nil, ErrGoogleApplicationCrendentialsNotFound
        }
    """,
    "pkg/scaling/resolver/absent.go": """
        package resolver

        import (
            "errors"

            kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
        )

        type absent struct{}

        var errAbsent = errors.New("not built")

        func NewHashicorpVaultHandler(...any) absent   { return absent{} }
        func NewAzureKeyVaultHandler(...any) absent    { return absent{} }
        func NewGCPSecretManagerHandler(...any) absent { return absent{} }
        func NewAwsSecretManagerHandler(...any) absent { return absent{} }

        func (absent) Initialize(...any) error         { return errAbsent }
        func (absent) Stop()                           {}
        func (absent) Read(...any) (string, error)     { return "", errAbsent }
        func (absent) ResolveSecrets([]kedav1alpha1.VaultSecret) ([]kedav1alpha1.VaultSecret, error) {
            return nil, errAbsent
        }
    """,
    "pkg/eventemitter/absent.go": """
        package eventemitter

        import "errors"

        func NewAzureEventGridTopicHandler(...any) (EventDataHandler, error) { return nil, errors.New("not built") }
    """,
}
_GONE = ("pkg/scaling/resolver/*_handler.go", "pkg/eventemitter/azure_event_grid_topic_handler.go")


def trim(folder: Path) -> None:
    """Change the module in a folder."""
    for path in folder.rglob("*_test.go"):
        path.unlink()
    for path in (folder / "pkg/scalers").glob("*.go"):
        if path.name not in _SCALERS:
            path.unlink()
    for cloud in ("aws", "azure", "gcp"):
        shutil.rmtree(folder / "pkg/scalers" / cloud)
    for pattern in _GONE:
        for path in folder.glob(pattern):
            path.unlink()
    for name, text in _STUBS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    builder = folder / "pkg/scaling/scalers_builder.go"
    before, cases, after = re.split(
        r"(?<=switch triggerType \{\n)|(?=\tdefault:\n\t\treturn nil, fmt)", builder.read_text()
    )
    kept = [case for case in re.findall(r'\tcase "[^\n]*\n(?:\t\t[^\n]*\n)+', cases) if case.split('"')[1] in _TRIGGERS]
    if len(kept) != len(_TRIGGERS):
        raise SystemExit(f"{builder} is not the one that is known")
    builder.write_text(before + "".join(kept) + after, encoding="utf-8")


if __name__ == "__main__":
    trim(Path(sys.argv[1]))
