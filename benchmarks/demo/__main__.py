"""Measure what a newcomer sees of ``tokentide demo``: seconds from the command to each thing the README promises.

    python benchmarks/demo --all --out benchmarks/demo/results.jsonl    everything; writes results.md beside it
    python benchmarks/demo                                              once, on a machine that does nothing else
    python benchmarks/demo --busy 4 --live-for 300                      beside four endless loops, five minutes live
    python benchmarks/demo --short                                      CPU seconds of --history-days 1 --seconds 5

The demo is watched from outside, through its HTTP API, as the board does. Everything is counted from the command.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "demo"))
from report import machine, report

from pipeline.kafka.embedded_broker import free_port

SMALL, LARGE = "llama-3.1-8b-instruct|chat", "llama-3.3-70b-instruct|chat"
#: Event seconds after live start (a full hour) at which the scenario's demand jumps.
RECURRING_ONSET, FLASH_ONSET = 40 * 60, 80 * 60
LOOK_SECONDS = 0.5


def get(url: str) -> Any:
    """JSON from the demo; None: no answer."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return json.load(response)
    except (OSError, ValueError):
        return None


def spin() -> None:
    """One busy loop."""
    while True:
        pass


@contextlib.contextmanager
def busy(loops: int) -> Iterator[None]:
    """Endless loops beside what is measured."""
    running = [multiprocessing.Process(target=spin, daemon=True) for _ in range(loops)]
    for process in running:
        process.start()
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.join()


class Watch:
    """What was seen of one run; times are seconds since the command."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.began = time.monotonic()
        self.seen: dict[str, float] = {}
        self.live_start: float | None = None
        self.longest_stall = 0.0
        self.looks = self.valid_looks = 0
        self.longest_invalid = 0.0
        self.speeds: list[float] = []
        self.warned_ahead_seconds: float | None = None
        self._share, self._moved_at = -1.0, self.began
        self._desired: dict[str, set[int]] = {}
        self._valid_at = self.began

    def note(self, what: str) -> None:
        self.seen.setdefault(what, round(time.monotonic() - self.began, 1))

    def look(self) -> None:
        """Look once."""
        status = get(f"{self.url}/v1/status")
        if status is None:
            return
        self.note("board_answers")
        progress = status["progress"]
        now = time.monotonic()
        if progress is not None:
            if progress["share"] > max(self._share, 0.0):
                self.note("first_progress")
            if progress["share"] != self._share:
                self._share, self._moved_at = progress["share"], now
            self.longest_stall = max(self.longest_stall, now - self._moved_at)
            return
        if self.live_start is None:
            if status["as_of"] is None:
                return
            self.live_start = status["as_of"] // 3600 * 3600
            self.note("learned")
        if status["now"] > self.live_start:
            self.note("time_runs")
        if status["as_of"] > self.live_start:
            self.note("first_live_window")
            self._look_at_advice(status)

    def _look_at_advice(self, status: Any) -> None:
        advice, alerts = get(f"{self.url}/v1/recommendations"), get(f"{self.url}/v1/alerts")
        if advice is None or alerts is None:
            return
        self.looks += 1
        self.speeds.append(status["speed"]["actual"])
        now = time.monotonic()
        if len(advice["recommendations"]) == status["pools"]:
            self.valid_looks += 1
            self._valid_at = now
        self.longest_invalid = max(self.longest_invalid, now - self._valid_at)
        for item in advice["recommendations"]:
            desired = self._desired.setdefault(f"{item['model']}|{item['pool']}", set())
            desired.add(item["desired"])
            if len(desired) > 1:
                self.note("advice_moved")
        for alert in alerts["alerts"]:
            self._look_at_alert(alert)

    def _look_at_alert(self, alert: Any) -> None:
        assert self.live_start is not None
        key, at = f"{alert['model']}|{alert['pool']}", alert["raised_at"] - self.live_start
        if at <= 0:
            return
        if alert["kind"] == "spike_forecast" and key == SMALL and at < RECURRING_ONSET:
            self.note("recurring_spike_warned")
            self.warned_ahead_seconds = RECURRING_ONSET - at
        if alert["kind"] == "spike_observed" and key == LARGE and 0 < at - FLASH_ONSET <= 120:
            self.note("flash_spike_detected")

    @property
    def complete(self) -> bool:
        return {"recurring_spike_warned", "flash_spike_detected", "advice_moved"} <= self.seen.keys()


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run the demo once and return what was seen."""
    port = options.port or free_port()
    arguments = ["--port", str(port), "--history-days", str(options.history_days), "--speed", str(options.speed)]
    command = [sys.executable, "-m", "pipeline", "demo", *arguments]
    if options.make:
        command = ["make", "demo", f"ARGS={' '.join(arguments)}"]
    url = f"http://127.0.0.1:{port}"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with busy(options.busy):
        watch = Watch(url)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        pictures = None
        if options.screenshots:
            script = Path(__file__).with_name("photograph.py")
            pictures = subprocess.Popen([sys.executable, script, url, options.screenshots, str(watch.began)])
        try:
            while process.poll() is None:
                watch.look()
                since = time.monotonic() - watch.began
                live_for = since - watch.seen.get("first_live_window", since)
                if (watch.complete and live_for >= options.live_for) or since > options.at_most:
                    break
                time.sleep(LOOK_SECONDS)
        finally:
            if pictures is not None:
                pictures.wait(300)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            status = process.wait(60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    own_cpu = 0.0 if options.busy or options.screenshots else after.ru_utime + after.ru_stime
    return {
        **machine(),
        "busy_loops": options.busy,
        "history_days": options.history_days,
        "seconds": watch.seen,
        "longest_stall_of_progress_seconds": round(watch.longest_stall, 1),
        "warned_ahead_event_seconds": watch.warned_ahead_seconds,
        "looks_with_valid_advice": [watch.valid_looks, watch.looks],
        "longest_without_valid_advice_seconds": round(watch.longest_invalid, 1),
        "speed_mean_and_least": [round(sum(watch.speeds) / len(watch.speeds), 1), round(min(watch.speeds), 1)]
        if watch.speeds
        else None,
        # Loops and browsers are children, too: only a run without them tells the CPU of the demo.
        "cpu_seconds": round(own_cpu - before.ru_utime - before.ru_stime, 1) if own_cpu else None,
        "ran_seconds": round(time.monotonic() - watch.began, 1),
        "exit_status": status,
    }


def cpu_of_a_short_run() -> dict[str, Any]:
    """CPU seconds of ``demo --history-days 1 --seconds 5``, its children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    command = [sys.executable, "-m", "pipeline", "demo", "--port", str(free_port())]
    subprocess.run([*command, "--history-days", "1", "--seconds", "5"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**machine(), "short_run_cpu_seconds": round(cpu, 1), "ran_seconds": round(time.monotonic() - began, 1)}


def main() -> None:
    """Measure once; print JSON and, with ``--out``, append to a file of results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=0, help="endless loops beside the demo")
    parser.add_argument("--history-days", type=float, default=1.0)
    parser.add_argument("--speed", type=float, default=60.0)
    parser.add_argument("--live-for", type=float, default=0.0, help="seconds to go on looking once events flow")
    parser.add_argument("--all", action="store_true", help="quiet, beside two busy loops per core, and --short")
    parser.add_argument("--at-most", type=float, default=900.0, help="seconds after which the run ends")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--make", action="store_true", help="start it with make demo")
    parser.add_argument("--short", action="store_true", help="measure the CPU of a short run instead")
    parser.add_argument("--screenshots", type=Path, help="folder for pictures of the board")
    parser.add_argument("--out", type=Path, help="JSON lines to append to; a .md of the same name is written")
    options = parser.parse_args()
    if options.all:
        loops = 2 * len(os.sched_getaffinity(0))
        for busy_loops, live_for in ((0, 60.0), (loops, 300.0)):
            options.busy, options.live_for = busy_loops, live_for
            keep(options.out, run(options))
        keep(options.out, cpu_of_a_short_run())
    else:
        keep(options.out, cpu_of_a_short_run() if options.short else run(options))


def keep(results: Path | None, result: dict[str, Any]) -> None:
    """Print one result; append it to ``results``, and write the tables of all in there beside it."""
    print(json.dumps(result, indent=2))
    if results is not None:
        with results.open("a") as sink:
            sink.write(json.dumps(result) + "\n")
        results.with_suffix(".md").write_text(report(results))


if __name__ == "__main__":
    main()
