from __future__ import annotations

import sys
from pathlib import Path

# The harness is a module beside this file (pytest runs with --import-mode=importlib); processes that tests start
# inherit the path.
sys.path.insert(0, str(Path(__file__).parent))
