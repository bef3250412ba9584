"""Real inference software, in environments of its own: opt-in, ``make test-real``.

``REAL_SERVERS`` names the folder that ``tests/real/install.sh`` filled: ``vllm`` and ``litellm`` are virtual
environments there. Without it these tests are skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from pipeline.kafka.embedded_broker import EmbeddedBroker, free_port

HERE = Path(__file__).resolve().parent
EMITTERS = HERE.parents[1] / "examples" / "emitters"
MODEL, POOL = "tiny-llama", "cpu"


@pytest.fixture(scope="session")
def real() -> Path:
    folder = os.environ.get("REAL_SERVERS")
    if not folder:
        pytest.skip("REAL_SERVERS is not set: run `make test-real`")
    return Path(folder)


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    with EmbeddedBroker() as server:
        yield server.bootstrap


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def eventually(what: str, look: Callable[[], Any], alive: Callable[[], bool] = lambda: True) -> Any:
    """Wait until ``look`` returns something true, as long as ``alive``; only the test's timeout ends it."""
    while True:
        assert alive(), f"the server ended while waiting for {what}"
        with contextlib.suppress(URLError, OSError, ValueError):
            found = look()
            if found:
                return found
        time.sleep(0.5)


@contextlib.contextmanager
def running(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=os.environ | environment)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def pipeline(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running ``tokentide run``."""
    folder = tmp_path_factory.mktemp("pipeline")
    port = free_port()
    settings = {
        "TOKENTIDE_KAFKA__BOOTSTRAP": broker,
        "TOKENTIDE_STORE__PATH": str(folder / "real.duckdb"),
        "TOKENTIDE_PUBLISH__PORT": str(port),
        "TOKENTIDE_WINDOWS__GRAIN_SECONDS": "10",
        "TOKENTIDE_WINDOWS__ALLOWED_LATENESS_SECONDS": "5",
    }
    with running([sys.executable, "-m", "pipeline", "run"], folder / "log", **settings) as process:
        url = f"http://127.0.0.1:{port}"
        eventually("the pipeline", lambda: get(f"{url}/readyz"), lambda: process.poll() is None)
        yield url


@pytest.fixture(scope="session")
def vllm(real: Path, broker: str, pipeline: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real vLLM with the emitter in it; ``pipeline`` is up before it emits."""
    folder = tmp_path_factory.mktemp("vllm")
    python = real / "vllm" / "bin" / "python"
    subprocess.run([str(python), str(HERE / "make_model.py"), str(folder / "model")], check=True)
    port = free_port()
    command = [str(real / "vllm" / "bin" / "vllm"), "serve", str(folder / "model"), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--served-model-name", MODEL, "--max-model-len", "2048", "--dtype", "bfloat16"]
    command += ["--enforce-eager", "--max-num-seqs", "16"]
    command += ["--middleware", "tokentide_emitter.vllm_asgi.TokentideMiddleware"]
    environment = {
        "TOKENTIDE_KAFKA": broker,
        "TOKENTIDE_POOL": POOL,
        "TOKENTIDE_TENANT_HEADER": "X-Tenant",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }
    with running(command, folder / "log", **environment) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            eventually("vLLM", lambda: get(f"{url}/v1/models"), lambda: process.poll() is None)
        except AssertionError:
            pytest.fail((folder / "log").read_text()[-4000:])
        yield url


@pytest.fixture(scope="session")
def litellm(real: Path, broker: str, vllm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real LiteLLM proxy in front of ``vllm``, with the callback; its pool is ``gateway``."""
    folder = tmp_path_factory.mktemp("litellm")
    config = {
        "model_list": [
            {
                "model_name": MODEL,
                "litellm_params": {"model": f"hosted_vllm/{MODEL}", "api_base": f"{vllm}/v1", "api_key": "none"},
            },
            {
                "model_name": "limited",
                "litellm_params": {
                    "model": "openai/gpt-4o-mini",
                    "mock_response": "litellm.RateLimitError",
                    "api_key": "none",
                },
            },
        ],
        "litellm_settings": {"callbacks": "tokentide_emitter.litellm_callback.handler", "num_retries": 0},
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    port = free_port()
    command = [str(real / "litellm" / "bin" / "litellm"), "--config", str(folder / "config.yaml")]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {
        "TOKENTIDE_KAFKA": broker,
        "TOKENTIDE_POOL": "gateway",
        "LITELLM_MASTER_KEY": "sk-test",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PATH": f"{real / 'litellm' / 'bin'}:{os.environ['PATH']}",
    }
    with running(command, folder / "log", **environment) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            eventually("LiteLLM", lambda: get(f"{url}/health/liveliness") is not None, lambda: process.poll() is None)
        except AssertionError:
            pytest.fail((folder / "log").read_text()[-4000:])
        yield url
