from __future__ import annotations

import subprocess
import sys

_CODE = """
import sys
import sizing.compare, sizing.explain, sizing.planning.known_point, sizing.planning.plan
import sizing.calibration.table, sizing.report
heavy = ("difflib", "numpy", "scipy", "yaml", "sizing.calibration.calibrator")
print(*sorted(name for name in heavy if name in sys.modules))
"""


def test_importing_the_library_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
