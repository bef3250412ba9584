"""Detect spikes online at a wanted rate of false alerts."""

import random

from pipeline import SpikeDetector

detector = SpikeDetector(false_alerts_per_day=1.0, grain_seconds=60.0)
draw = random.Random(7)
for minute in range(600):
    demand = 100.0 + draw.gauss(0.0, 5.0) + (200.0 if 500 <= minute < 520 else 0.0)
    spike = detector.observe(60.0 * (minute + 1), demand)
    if spike.began:
        print(f"minute {minute}: demand is {spike.ratio:.1f} times its level")
