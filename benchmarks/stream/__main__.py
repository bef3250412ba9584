"""Every reader on one topic, in one run: python -m benchmarks.stream [--broker embedded|apache] [--bytes 250|1000]

Without options it measures both brokers and both event sizes (about ten minutes) and writes ``results.md`` and
``results.json`` beside this file; with options it measures that part and replaces it in both files.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.stream.compare import READERS, compare
from benchmarks.stream.report import record, write
from benchmarks.stream.servers import BROKERS, broker


def main() -> int:
    """Measure, print, write; the status is 1 when a reader that should be complete counted wrongly."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream", description=__doc__)
    parser.add_argument("--broker", choices=list(BROKERS), action="append")
    parser.add_argument("--bytes", type=int, choices=(250, 1000), action="append")
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--events", type=int, default=600_000, help="in the topic of the fast readers")
    parser.add_argument("--slow-events", type=int, default=120_000, help="in the topic of the slow ones")
    parser.add_argument("--rounds", type=int, default=2, help="how often the whole list is run; the best one counts")
    parser.add_argument("--readers", default=",".join(READERS), help="comma-separated")
    parser.add_argument("--dry", action="store_true", help="print, but leave the results files alone")
    options = parser.parse_args()
    names = options.readers.split(",")
    unknown = set(names) - READERS.keys()
    if unknown:
        parser.error(f"no readers {sorted(unknown)}; there are {', '.join(READERS)}")
    wrong = False
    for kind in options.broker or list(BROKERS):
        for size in options.bytes or [250, 1000]:
            with broker(kind) as bootstrap:
                rows = compare(
                    bootstrap,
                    names,
                    events=options.events,
                    slow_events=options.slow_events,
                    keys=options.keys,
                    bytes_each=size,
                    rounds=options.rounds,
                )
            wrong |= any(row["wrong"] for row in rows)
            section = record(kind, size, options.keys, rows)
            print(section)
            if not options.dry:
                write(f"{kind}-{size}", kind, size, options.keys, rows)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
