"""How many histories of the stream protocol's state machine are played in a minute, and that all of them are exact.

python -m benchmarks.faults.histories --histories 3000 --stored 500
"""

from __future__ import annotations

import argparse
import secrets
import time

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.stream_histories import Histories, StoredHistories


def play(machine: type[Histories], histories: int, number: int) -> None:
    rules = settings(
        max_examples=histories,
        stateful_step_count=25,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    began, cpu = time.monotonic(), time.process_time()
    run_state_machine_as_test(seed(number)(machine), settings=rules)  # type: ignore[no-untyped-call]
    wall, busy = time.monotonic() - began, time.process_time() - cpu
    played = machine.histories[machine.__name__]
    print(
        f"{machine.__name__}: {played} histories exact, {played / busy * 60:,.0f} a minute of CPU time, "
        f"{played / wall * 60:,.0f} a minute by the clock (seed {number})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--histories", type=int, default=3_000, help="with the store in memory")
    parser.add_argument("--stored", type=int, default=500, help="with DuckDB")
    parser.add_argument("--seed", type=int, default=None, help="default: another one every time")
    arguments = parser.parse_args()
    number = secrets.randbelow(1 << 32) if arguments.seed is None else arguments.seed
    play(Histories, arguments.histories, number)
    play(StoredHistories, arguments.stored, number)


if __name__ == "__main__":
    main()
