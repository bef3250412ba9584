"""What version 0.1 wrote and what its users wrote for it starts unchanged: settings, store, options, metrics, rules.

The files in ``tests/data/upgrade`` were made with the code of that version.
"""

from __future__ import annotations

import gzip
import json
import tomllib
import warnings
from pathlib import Path

import pytest
import typer
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.config.deprecated import OldKey, current_values, migrate_toml
from pipeline.config.settings import load
from pipeline.engine.advisor import Advisor
from pipeline.fleet.kafka_reports import ReplicaBook
from pipeline.publish.metric_catalogue import METRICS
from pipeline.store.store import Store
from pipeline.stream.controller.window_closer import WindowCloser

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data" / "upgrade"
SETTINGS = DATA / "tokentide-0.1.toml"
NAMES = json.loads((DATA / "names-0.1.json").read_text(encoding="utf-8"))

#: Was always 0, so that no rule that used it can have fired.
REMOVED_METRICS = {"tokentide_step_errors_total"}


def test_the_settings_of_0_1_load_with_one_warning_and_mean_the_same() -> None:
    with pytest.warns(FutureWarning, match=r"^forecast\.seed has no effect and is refused from version") as told:
        settings = load(SETTINGS)
    assert len(told) == 1
    values = settings.model_dump(mode="json")
    old = tomllib.loads(SETTINGS.read_text(encoding="utf-8"))
    del old["forecast"]["seed"], old["publish"]["bearer_token"], old["reader"]["api_key"]
    for section, keys in old.items():
        for key, value in keys[0].items() if section == "pools" else keys.items():
            now = values["pools"][0] if section == "pools" else values[section]
            assert now[key] == value, f"{section}.{key}"


def test_an_old_key_in_the_environment_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENTIDE_FORECAST__SEED", "3")
    with pytest.warns(FutureWarning, match=r"forecast\.seed"):
        load()


def test_migrate_rewrites_the_file_keeps_comments_and_leaves_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "tokentide.toml"
    text = SETTINGS.read_text(encoding="utf-8").replace("seed = 7\n", "seed = 7 # of ours\n# about tenants\n")
    path.write_text(text, encoding="utf-8")
    runner = CliRunner()
    assert runner.invoke(app, ["config", "migrate", str(path), "--dry-run"]).exit_code == 0
    assert path.read_text(encoding="utf-8") == text
    assert runner.invoke(app, ["config", "migrate", str(path)]).exit_code == 0
    assert path.read_text(encoding="utf-8") == text.replace("seed = 7 # of ours\n", "")
    assert path.with_name("tokentide.toml.bak").read_text(encoding="utf-8") == text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(path)
    again = runner.invoke(app, ["config", "migrate", str(path)])
    assert "nothing to change" in again.output
    path.write_text("[forecast\n", encoding="utf-8")
    assert runner.invoke(app, ["config", "migrate", str(path)]).exit_code == 2


def test_renamed_keys_move_and_the_new_name_wins() -> None:
    renamed = (
        OldKey(("serve", "port"), ("publish", "port"), "9.9"),
        OldKey(("pools[]", "gpu"), ("pools[]", "accelerator"), "9.9"),
    )
    text = '[serve]\nport = 1 # ours\n\n[[pools]]\ngpu = "A" # first\n[[pools]]\ngpu = "B"\naccelerator = "C"\n'
    after, changed = migrate_toml(text, renamed)
    assert changed == ["serve.port is now publish.port", "pools[].gpu is now pools[].accelerator"]
    expected = {"serve": {}, "publish": {"port": 1}, "pools": [{"accelerator": "A"}, {"accelerator": "C"}]}
    assert tomllib.loads(after) == expected
    with pytest.warns(FutureWarning) as told:
        assert current_values(tomllib.loads(text), renamed) == expected
    assert str(told[0].message).startswith(
        "serve.port is now publish.port; the old name is refused from version 9.9 on"
    )
    assert len(told) == 2


def test_the_store_of_0_1_opens_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    path.write_bytes(gzip.decompress((DATA / "store-0.1.duckdb.gz").read_bytes()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = load(SETTINGS)
    with Store.open(path, settings.store, settings.windows) as store:
        closed = store.last_closed()
        last = store.last_output()
        assert closed is not None
        assert last is not None
        assert last.recommendations
        assert sum(w.requests for w in store.window_sums(closed - 720, closed + 180)) == 450
        closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
        closer.restore()
        output = closer.close_next(float(closed + 180))
        assert output is not None
        assert output.as_of == closed + 60
        assert output.forecasts
        assert output.recommendations


def test_every_command_and_option_of_0_1_is_taken() -> None:
    found: dict[str, set[str]] = {}

    def walk(command: typer.core.TyperCommand, path: str) -> None:
        found[path.strip()] = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{path} {name}")

    walk(get_command(app), "")
    for command, options in NAMES["commands"].items():
        assert command in found
        assert set(options) <= found[command], command


def test_every_metric_of_0_1_has_its_name_and_labels() -> None:
    now = {name: list(metric.labels) for name, metric in METRICS.items()}
    gone = {name for name, labels in NAMES["metrics"].items() if now.get(name) != labels}
    assert gone == REMOVED_METRICS


def test_the_rules_of_0_1_find_their_metrics_and_ours_keep_their_names() -> None:
    import builder

    def rules(path: Path) -> list[dict[str, str]]:
        return [r for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"] for r in group["rules"]]

    old, new = rules(DATA / "rules-0.1.yml"), rules(ROOT / "dashboards" / "prometheus" / "tokentide.rules.yml")
    for rule in old:
        builder.query(rule["expr"])  # refuses unknown metrics and labels
    assert {r.get("alert") or r["record"] for r in old} <= {r.get("alert") or r["record"] for r in new}
    (valid,) = [r for r in new if r.get("record") == "model_pool:tokentide_recommended_replicas:valid"]
    assert valid["expr"].startswith("max by (model, pool)")
