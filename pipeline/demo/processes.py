"""The processes that the demo starts, and what of them it watches."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pipeline.config.settings import Settings, to_environment
from pipeline.errors import ServerUnavailable
from pipeline.prctl import death_signal

__all__ = ["PipelineProcesses"]

#: A process that failed is started again, unless it lived for less than this.
_LEAST_LIFE_SECONDS = 20.0
_LAST_LINES = 15


class PipelineProcesses:
    """The aggregator and the controller, each a process of its own; a context manager that ends them.

    They log to ``folder``. Start them from the main thread: on Linux they end with it.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}

    def __enter__(self) -> PipelineProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End all that run, in order; while the broker is there, or they would wait for it."""
        for process, _began in self._running.values():
            process.terminate()
        deadline = time.monotonic() + self._settings.stream.shutdown_seconds + 5.0
        for process, _began in self._running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._running.clear()

    def start(self, role: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start ``role`` ("aggregate" or "control"); what is written to its ``stdin`` reaches it."""
        with self._log(role).open("ab") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.demo.child", role, *arguments],
                env=os.environ | to_environment(self._settings),
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=subprocess.STDOUT,
                # The terminal's Ctrl-C must reach the demo alone, which then ends the others in order.
                start_new_session=True,
                preexec_fn=death_signal(),  # noqa: PLW1509 -- it only makes one system call
            )
        self._running[role] = (process, time.monotonic())
        return process

    def check(self, *, restart: bool) -> list[str]:
        """Look whether all still run; returns the roles that ended and, with ``restart``, were started again.

        Raises:
            ServerUnavailable: one ended, and is not restarted or lived too short a life for that.
        """
        restarted = []
        for role, (process, began) in list(self._running.items()):
            if process.poll() is None:
                continue
            if not restart or time.monotonic() - began < _LEAST_LIFE_SECONDS:
                raise ServerUnavailable(
                    f"the {role} process ended with status {process.returncode}:\n{self._last_lines(role)}"
                )
            self.start(role)
            restarted.append(role)
        return restarted

    def _log(self, role: str) -> Path:
        return self._folder / f"{role}.log"

    def _last_lines(self, role: str) -> str:
        return "\n".join(self._log(role).read_text(errors="replace").splitlines()[-_LAST_LINES:])
