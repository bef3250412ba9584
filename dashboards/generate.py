"""Writes the Grafana dashboards, what follows from the alert rules, and the rules for the Prometheus operator;
``--check`` only says whether the committed files are what would be written.

    python dashboards/generate.py [--check]

Exit status: 0 written or up to date, 1 out of date or wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
OPERATOR_RULES = FOLDER.parent / "deploy" / "kubernetes" / "monitoring" / "prometheusrule.yaml"
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]

from alert_files import RULES, alert_files  # noqa: E402
from audit_board import audit_board  # noqa: E402
from builder import DashboardError  # noqa: E402
from health_board import health_board  # noqa: E402
from overview import overview  # noqa: E402
from pool_board import pool_board  # noqa: E402
from slo_board import slo_board  # noqa: E402


def render() -> dict[Path, str]:
    """Return the text of every file.

    Raises:
        DashboardError: an expression names a metric or label that the catalogue does not have.
    """
    boards = [overview(), pool_board(), audit_board(), slo_board(), health_board()]
    files = {FOLDER / "grafana" / f"{board['uid']}.json": json.dumps(board, indent=1) + "\n" for board in boards}
    files |= alert_files()
    return files | {OPERATOR_RULES: operator_rules(files[RULES])}


def operator_rules(rules: str) -> str:
    """Return Prometheus' rule file as a PrometheusRule of the operator: the same text, indented under ``spec``."""
    head = (
        "# Written by dashboards/generate.py from dashboards/prometheus/tokentide.rules.yml.\n"
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: tokentide}\nspec:\n"
    )
    return head + "".join(f"  {line}\n" if line else "\n" for line in rules.splitlines() if not line.startswith("#"))


def main() -> int:
    """Write or check the files."""
    parser = argparse.ArgumentParser(description="Write the Grafana dashboards and the files of the alert rules.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    check = parser.parse_args().check
    try:
        files = render()
    except DashboardError as error:
        print(error, file=sys.stderr)
        return 1
    stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if check:
        for path in stale:
            print(f"{path} is out of date; run python dashboards/generate.py", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(files[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
