"""``tokentide calendar`` against a broker: add, list, import, remove."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app

pytestmark = pytest.mark.integration


def test_add_list_import_remove(any_broker: str, tmp_path: Path) -> None:
    own = uuid.uuid4().hex[:8]
    topics = ("requests", "deltas", "windows", "forecasts", "recommendations", "alerts", "replicas", "calendar")
    environment = {f"TOKENTIDE_KAFKA__{name.upper()}_TOPIC": f"{name}-{own}" for name in topics}
    environment |= {"TOKENTIDE_KAFKA__BOOTSTRAP": any_broker, "TOKENTIDE_KAFKA__PARTITIONS": "1", "NO_COLOR": "1"}

    def invoke(*args: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, ["calendar", *args], env={**environment, "COLUMNS": "250"})
        assert result.exit_code == code, result.output
        return result

    def listed(*args: str) -> list[str]:
        return sorted(record["id"] for record in json.loads(invoke("list", "-o", "json", *args).stdout))

    assert listed() == []
    times = ["--starts", "2099-12-01T09:00", "--duration", "2h"]
    invoke("add", "--kind", "launch", *times, "--id", "launch-1", "--size", "2")
    invoke("add", "--kind", "launch", *times, "--id", "launch-1", "--size", "3")
    file = tmp_path / "e.jsonl"
    old = {"id": "old", "kind": "campaign", "starts_at": 100, "ends_at": 200}
    file.write_text(json.dumps(old) + "\n" + json.dumps({**old, "id": "coming", "ends_at": 4e9}) + "\n")
    assert "2 records written" in invoke("import", str(file)).stderr
    assert listed() == ["coming", "launch-1"]
    assert listed("--all") == ["coming", "launch-1", "old"]
    assert listed("--kind", "campaign") == ["coming"]
    (launch,) = json.loads(invoke("list", "--kind", "launch", "-o", "json").stdout)
    assert launch["expected_size"] == 3.0
    assert "launch-1" in invoke("list").stdout

    assert "nothing was removed" in invoke("remove", "coming", "unknown", code=2).stderr
    invoke("remove", "coming", "launch-1")
    assert listed("--all") == ["old"]
