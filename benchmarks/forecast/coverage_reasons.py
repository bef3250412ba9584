"""Why q95 covers less or more than it promises, by trace, as far as it is seen in the series.

Days count from 0, the first of a trace. A run is windows of the top decile one after another.
"""

COVERAGE_REASONS: dict[str, str] = {
    "az_5min": (
        "60 min, .964 and 1.000: too short. Three days are scored; by thirds of them q95 covers 1.00, .965 and .926, "
        "since bands begin wide."
    ),
    "burst_tokens_5min": (
        "15 and 60 min, .81 and .80 in the top decile: bursts of one window. The top decile is 144 windows in 82 "
        "runs; 64 and 61 % of the 28 misses are the first window of a run, at 2.7 and 2.9 times the median. 19 % of "
        "the windows are zero."
    ),
    "burst_conversation_1h": (
        "24 h, .961 and .837: 15 misses on twelve days, at 1.65 times the median and 1.7 times the same hour of the "
        "day before; 60 % are the first hour of a run."
    ),
    "burst_all_1h": (
        "All horizons: API bursts of hours to two days. At 24 h 30 of 60 misses are on days 9, 10 and 20, at 12 times "
        "the median. No hour of the top decile comes before day 9: by thirds q95 covers .86, .90 and .96. At 1 h 78 % "
        "of the misses are the first hour of a run, at 6 times the median."
    ),
    "servegen_small_10min": (
        "20 min, .939 and .809: a level that was not seen before. 48 of the 115 windows of the top decile, and 14 of "
        "the 22 misses, are on the last of ten days."
    ),
    "balancer_5min": (
        "All horizons, .57 to .65 in the top decile: bursts of one window. The top decile is 352 windows in 277 runs; "
        "78 to 94 % of the misses are the first window of a run, at 4.5 times the median, on all days alike."
    ),
    "purchase_02_1h": (
        "All horizons, .67 to .79 in the top decile: 5 to 16 purchases an hour (9 % of the hours have none), the top "
        "decile in 71 runs of 128 hours, and a level that rises from day 33 on: at 24 h, by thirds, q95 covers .97, "
        ".95 and .91."
    ),
    "purchase_03_1h": "24 h, .961: by thirds .974, .959 and .949, since bands begin wide.",
    "purchase_04_1h": (
        "24 h, .822 in the top decile: 14 of 21 misses are on days 32 and 47, at 2.4 times the median and 2.1 times "
        "the day before."
    ),
    "purchase_05_1h": (
        "All horizons, .60 to .77 in the top decile: 23 % of the hours are zero. At 24 h 38 of 54 misses are on days "
        "5, 12 and 13, and q95 covers .87, .98 and .98 by thirds; misses are 12 times the day before in the median. "
        "At 1 h 81 % of the misses are the first hour of a run."
    ),
}
