"""Published raw scores of other detectors on the Numenta benchmark, summed per folder from their per-file tables.

Each table is ``results/<detector>/<detector>_standard_scores.csv`` of github.com/numenta/NAB at the commit named, read
on 2026-11-22. Older tables than those of the benchmark's README, so the whole-corpus figures may differ from it.
"""

from __future__ import annotations

SOURCE = "numenta/NAB, `results/*/*_standard_scores.csv`"
#: Labelled windows of the whole corpus.
WINDOWS = 116
#: Whole corpus (58 files), and its folders realTweets (10 files) and realKnownCause (7 files).
RAW = {
    "ARTime": (57.661, 21.015, 5.274),  # @5a98e4f1 results/ARTime/ARTime_standard_scores.csv
    "Numenta HTM": (35.432, 11.554, 5.917),  # @07671350 results/numenta/numenta_standard_scores.csv
    "earthgecko Skyline": (
        19.025,
        12.495,
        -6.490,
    ),  # @2c24d10d results/earthgeckoSkyline/earthgeckoSkyline_standard_scores.csv
    "KNN CAD": (18.547, 9.434, -1.809),  # @e5eb2cb9 results/knncad/knncad_standard_scores.csv
    "Random Cut Forest": (
        3.984,
        -1.233,
        -2.630,
    ),  # @37b9a8cf results/randomCutForest/randomCutForest_standard_scores.csv
    "windowed Gaussian": (
        -44.754,
        0.930,
        -16.012,
    ),  # @487c0f97 results/windowedGaussian/windowedGaussian_standard_scores.csv
}


def on_folders(present: set[str]) -> list[tuple[str, float, float]]:
    """Return name, raw score on the folders present, and the score on the whole corpus (0 to 100)."""
    found = []
    for name, (whole, tweets, causes) in RAW.items():
        absent = (0.0 if "realTweets" in present else tweets) + (0.0 if "realKnownCause" in present else causes)
        found.append((name, whole - absent, 100.0 * (whole + WINDOWS) / (2.0 * WINDOWS)))
    return found
