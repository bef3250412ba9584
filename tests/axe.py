"""axe-core, which checks pages for accessibility; fetched once with npm into the folder of temporary files."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

#: Mozilla Public License 2.0: it is run against the board, and is no part of it.
AXE_VERSION = "4.14.1"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class AxeMissingError(Exception):
    """axe-core is not there and cannot be fetched."""


@cache
def axe_source() -> str:
    """Return the script of axe-core.

    Raises:
        AxeMissingError: npm is missing, or it cannot fetch the package.
    """
    kept = Path(tempfile.gettempdir()) / f"tokentide-axe-core-{AXE_VERSION}" / "axe.min.js"
    if not kept.exists():
        if shutil.which("npm") is None:
            raise AxeMissingError("npm is not installed, and it fetches axe-core")
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            command = ["npm", "pack", "--silent", f"axe-core@{AXE_VERSION}"]
            told = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False, timeout=300)
            if told.returncode != 0:
                raise AxeMissingError(f"npm cannot fetch axe-core {AXE_VERSION}: {told.stderr.strip()[-200:]}")
            with tarfile.open(next(work.glob("*.tgz"))) as packed:
                packed.extract("package/axe.min.js", work, filter="data")
            kept.parent.mkdir(exist_ok=True)
            (work / "package" / "axe.min.js").rename(kept.with_suffix(f".{work.name}"))
            kept.with_suffix(f".{work.name}").rename(kept)  # whole, or not at all, beside others that fetch it too
    return kept.read_text(encoding="utf-8")


def violations(page: Any) -> list[str]:
    """Return what axe finds wrong with a page of Playwright's: rule, help, the first elements."""
    page.evaluate(axe_source())
    options = json.dumps({"runOnly": {"type": "tag", "values": RULES}, "resultTypes": ["violations"]})
    found = page.evaluate(f"axe.run(document, {options}).then((r) => r.violations)")
    return [
        f"{rule['id']}: {rule['help']}: {[node['target'][0] for node in rule['nodes'][:4]]} "
        f"{rule['nodes'][0].get('failureSummary', '')}"
        for rule in found
    ]
