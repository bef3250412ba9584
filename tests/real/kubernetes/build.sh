#!/bin/bash
# Build a control plane of Kubernetes and KEDA from their Go modules into a folder, once (docs/autoscaling.md: how long
# that takes). What cannot be built is named and left out, and the tests that need it are skipped.
set -eu
folder=${1:?folder}
kubernetes=${KUBERNETES_VERSION:-1.36.3}
etcd=${ETCD_VERSION:-3.6.8}
keda=${KEDA_VERSION:-2.20.2}
prometheus_operator=${PROMETHEUS_OPERATOR_VERSION:-0.85.0}
here=$(cd "$(dirname "$0")" && pwd)
command -v go > /dev/null || { echo "Go is not installed: nothing is built" >&2; exit 0; }
mkdir -p "$folder/crds" "$folder/source/kubernetes"
folder=$(cd "$folder" && pwd)
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -mod=mod -buildvcs=false"

module() { # the folder of a module in Go's cache
  (cd "$folder/source" && go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
}

# k8s.io/kubernetes takes its parts from its own tree; here each of them is the module of the same release.
if [ ! -e "$folder/source/kubernetes/go.mod" ]; then
  source=$(module "k8s.io/kubernetes@v$kubernetes")
  {
    printf 'module programs\n\n%s\n\n' "$(grep '^go ' "$source/go.mod")"
    printf 'require (\n\tk8s.io/kubernetes v%s\n\tgo.etcd.io/etcd/server/v3 v%s\n)\n\nreplace (\n' "$kubernetes" "$etcd"
    sed -n 's|^\t\(k8s.io/[a-z-]*\) => ./staging/.*|\1|p' "$source/go.mod" | sed "s|.*|\t& => & v0.${kubernetes#1.}|"
    printf ')\n'
  } > "$folder/source/kubernetes/go.mod"
fi
build() { # program, package, flags of the linker
  [ -e "$folder/$1" ] || go build -ldflags "-s -w ${3:-}" -o "$folder/$1" "$2" || echo "not built: $1" >&2
}

cd "$folder/source/kubernetes"
version=k8s.io/component-base/version
minor=$(echo "$kubernetes" | cut -d. -f2)
named="-X $version.gitVersion=v$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=$minor"
build etcd go.etcd.io/etcd/server/v3
for program in kube-apiserver kube-controller-manager kubectl; do
  build "$program" "k8s.io/kubernetes/cmd/$program" "$named"
done

source=$(module "github.com/prometheus-operator/prometheus-operator@v$prometheus_operator")
install -m 644 "$source"/example/prometheus-operator-crd/*_{servicemonitors,prometheusrules}.yaml "$folder/crds"

source=$(module "github.com/kedacore/keda/v2@v$keda")
install -m 644 "$source"/config/crd/bases/*.yaml "$folder/crds"
if [ ! -e "$folder/keda-operator" ] || [ ! -e "$folder/keda-adapter" ]; then
  rm -rf "$folder/source/keda"
  cp -r "$source" "$folder/source/keda"
  chmod -R u+w "$folder/source/keda"
  python3 "$here/trim_keda.py" "$folder/source/keda"
  cd "$folder/source/keda"
  build keda-operator ./cmd/operator
  build keda-adapter ./cmd/adapter
fi
