"""How far reading weights and computing overlap in one matrix product: the order of the norm in
``sizing.replica.step_time``.

    python benchmarks/sizing/overlap.py [--data FOLDER]

FOLDER holds ``aic_ops`` (kernel timings of ai-dynamo/aiconfigurator commit 095f58a51c, Apache-2.0). Per GPU and
precision: the GEMMs with n and k from 4,096 to 28,672; reading takes the least time at m <= 16, computing the median
time per row at m >= 4,096, and the order is the one that fits the times in between (computing 0.3 to 3 times reading)
with the least mean error of logarithms. Kernel timings only: no end-to-end measurement has a say. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import duckdb
import numpy as np
from measurements import DATA
from numpy.typing import NDArray

ORDERS = np.arange(1.0, 8.01, 0.05)


def corners(table: Path) -> dict[str, NDArray[np.float64]]:
    """Return (computing over reading, time over reading) around the corner by precision."""
    rows = duckdb.execute(
        "SELECT gemm_dtype, m, n, k, min(latency) FROM read_parquet(?) "
        "WHERE n BETWEEN 4096 AND 28672 AND k BETWEEN 4096 AND 28672 GROUP BY ALL ORDER BY ALL",
        [str(table)],
    ).fetchall()
    shapes: defaultdict[tuple[str, int, int], dict[int, float]] = defaultdict(dict)
    for precision, m, n, k, latency in rows:
        shapes[precision, n, k][m] = latency
    found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for (precision, _, _), times in shapes.items():
        small = [time for m, time in times.items() if m <= 16]
        large = [time / m for m, time in times.items() if m >= 4096]
        if small and large:
            reading, row = min(small), float(np.median(large))
            # Odd m are the neighbours of even ones, slightly slower.
            found[precision] += [(row * m / reading, time / reading) for m, time in times.items() if m % 2 == 0]
    return {
        precision: np.array([point for point in points if 0.3 < point[0] < 3.0])
        for precision, points in sorted(found.items())
    }


def mean_error(points: NDArray[np.float64], order: float) -> float:
    """Return the mean absolute log error of the norm of one order."""
    return float(np.abs(np.log((1 + points[:, 0] ** order) ** (1 / order) / points[:, 1])).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    print("| GPU | precision | timings | order | error | of the sum (order 1) | of the larger |")
    print("|---|---|---|---|---|---|---|")
    best = []
    for table in sorted((options.data / "aic_ops").glob("*/gemm/*/*/gemm_perf.parquet")):
        for precision, points in corners(table).items():
            order = min(ORDERS, key=lambda value, at=points: mean_error(at, value))
            best.append(order)
            cells = " | ".join(f"{mean_error(points, value):.1%}" for value in (order, 1.0, 100.0))
            print(f"| {table.parents[3].name} | {precision} | {len(points)} | {order:.2f} | {cells} |")
    print(f"\nMedian of the orders: {np.median(best):.2f}")


if __name__ == "__main__":
    main()
