"""The catalogue file that the guide shows is one that is read."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from sizing.catalog.user import catalog_from_mapping

GUIDE = Path(__file__).resolve().parents[4] / "docs" / "sizing.md"


def test_the_example_of_the_guide() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
    catalog = catalog_from_mapping(yaml.safe_load(block))
    assert catalog.gpu("h100-ours").price.dollars_per_gpu_hour == 2.75
    assert 12e9 < catalog.model("our-13b").total_parameters < 14e9
