"""Follow Tokentide's advice for one pool with a command of your own; needs nothing but Python.

    python follow_advice.py http://tokentide:8321 MODEL POOL -- kubectl scale deployment/chat --replicas={replicas}

Every rule of docs/autoscaling.md: advice that has expired or cannot be read changes nothing; only fresh advice scales
down; a generation is acted on once, and again only when the command failed. Ctrl-C ends it. ``TOKENTIDE_TOKEN`` in the
environment is sent as a bearer token.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any


def read_advice(url: str, model: str, pool: str, token: str | None, timeout_seconds: float = 10.0) -> dict[str, Any]:
    """Return the pool's valid advice.

    Raises:
        OSError: no answer, or one that is no advice: 404 unknown pool or none yet, 410 expired, 401 refused.
        ValueError: the answer is not JSON.
    """
    path = f"{url.rstrip('/')}/v1/recommendations/{urllib.parse.quote(model)}/{urllib.parse.quote(pool, safe='')}"
    request = urllib.request.Request(path, headers={"Authorization": f"Bearer {token}"} if token else {})
    with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:
        advice = json.load(answer)
    if not isinstance(advice, dict):
        raise ValueError(f"{path} does not answer with an object")
    return advice


def decide(advice: dict[str, Any], running: int | None, acted_generation: int | None) -> int | None:
    """Return the replicas to ask for, or None to change nothing.

    Args:
        advice: as the API gives it.
        running: replicas that were asked for last; None: not known, and then the fleet's report counts.
        acted_generation: the generation that was acted on last.
    """
    if acted_generation is not None and advice["generation"] <= acted_generation:
        return None
    running = running if running is not None else advice["current"]
    desired = int(advice["desired"])
    if advice["state"] != "fresh":
        if running is None or desired <= running:
            return None  # only fresh advice scales down; without a report nobody knows whether this is down
    elif desired == running:
        return None
    return desired


def follow(arguments: argparse.Namespace) -> None:
    """Read and act until interrupted."""
    running: int | None = None
    acted: int | None = None
    while True:
        try:
            advice = read_advice(arguments.url, arguments.model, arguments.pool, os.environ.get("TOKENTIDE_TOKEN"))
            replicas = decide(advice, running, acted)
            if replicas is not None:
                command = [part.replace("{replicas}", str(replicas)) for part in arguments.command]
                print(f"{running} -> {replicas}: {advice['message']}", flush=True)
                subprocess.run(command, check=True, timeout=60)
                running = replicas
            acted = max(acted or 0, advice["generation"])
        except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError) as error:
            print(f"holding: {error}", file=sys.stderr, flush=True)
        time.sleep(arguments.every)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Follow Tokentide's advice for one pool.")
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("pool")
    parser.add_argument("--every", type=float, default=15.0, help="seconds between two looks")
    parser.add_argument("command", nargs="+", help="after --: sets the number of replicas, {replicas} in its arguments")
    with contextlib.suppress(KeyboardInterrupt):
        follow(parser.parse_args())


if __name__ == "__main__":
    main()
