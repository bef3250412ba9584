"""Settings on the command line: what is refused, by which commands, and where values are said to come from."""

import json
import os

import pytest
from typer.testing import CliRunner

from pipeline.cli.config import check_pools
from pipeline.cli.main import app
from pipeline.config.settings import load
from pipeline.errors import ConfigError
from pipeline.stream.process.supervisor import run_all

POOL = '[[pools]]\nmodel = "m"\nprofile = "llama-3.1-8b"\naccelerator = "L40S"\n'


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    for name in [n for n in os.environ if n.startswith("TOKENTIDE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "t.toml"
        path.write_text(text)
        return path

    return write


def invoke(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def refused(result, code, *words):
    assert result.exit_code == code, result.output
    line = result.stderr.strip()
    assert line.startswith("tokentide: ")
    assert "\n" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    "command",
    [
        ["config", "validate"],
        ["config", "show"],
        ["doctor"],
        ["run"],
        ["run", "--stage", "aggregate"],
        ["run", "--stage", "control"],
        ["simulate"],
        ["export", "out"],
    ],
    ids=" ".join,
)
def test_every_command_with_settings_refuses_those_that_cannot_work(config, command):
    path = config("[forecast]\nhorizons_seconds = []\n")
    refused(invoke(*command, "-c", path), 78, "horizons_seconds is empty")


@pytest.mark.parametrize("command", [["config", "validate"], ["run"], ["run", "--stage", "control"]], ids=" ".join)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('precision = "bogus"', ("unknown precision 'bogus'", "known: bf16")),
        ('kv_precision = "int4"', ("KV cache in 'int4'", "known: bf16")),
        ("tensor_parallel = 5000", ("5000 GPUs",)),
        ("max_num_seqs = 20000000", ("max_num_seqs",)),
        ("ttft_seconds = inf", ("pools.0.ttft_seconds", "finite")),
        ("min_replicas = 5\nmax_replicas = 2", ("min_replicas 5", "max_replicas 2")),
        ("tpot_seconds = 0", ("pools.0.tpot_seconds",)),
    ],
)
def test_pools_that_cannot_be_planned_for(config, command, text, words):
    refused(invoke(*command, "-c", config(POOL + text + "\n")), 78, "pools.0", *words)


@pytest.mark.slow
def test_doctor_finds_pools_that_cannot_be_planned_for(config):
    path = config('[kafka]\nbootstrap = "127.0.0.1:9"\n' + POOL + 'precision = "bogus"\n')
    result = invoke("doctor", "-c", path, "-o", "json")
    assert result.exit_code == 3
    found = {row["check"]: row for row in json.loads(result.stdout)}
    assert not found["pools"]["ok"]
    assert "unknown precision" in found["pools"]["detail"]


@pytest.mark.parametrize("text", ["[]", "{}", "no JSON", None])
def test_a_model_configuration_that_cannot_be_used_is_bad_configuration(config, tmp_path, text):
    model = tmp_path / "config.json"
    if text is not None:
        model.write_text(text)
    path = config(f'[[pools]]\nmodel = "m"\nprofile = "{model}"\naccelerator = "L40S"\n')
    refused(invoke("config", "validate", path), 78, "pools", "config.json")


def test_a_good_pool_is_accepted_however_it_is_written(config):
    path = config(POOL + 'precision = "FP8"\nkv_precision = "fp8_e4m3"\nttft_seconds = 5\nmin_replicas = 0\n')
    assert invoke("config", "validate", path).exit_code == 0
    check_pools(load(path))


def test_the_file_is_an_argument_or_an_option_and_not_both(config):
    path = config(POOL)
    for arguments in ([path], ["-c", path], ["--config", path]):
        result = invoke("config", "validate", *arguments)
        assert (result.exit_code, result.stdout) == (0, f"{path}: ok (1 pool)\n")
    refused(invoke("config", "validate"), 2, "which file?")
    refused(invoke("config", "validate", path, "-c", path), 2, "which file?")


@pytest.mark.slow
def test_folded_names_are_listed_and_a_name_of_two_pools_names_both(config):
    aliased = POOL + 'pool = "chat"\naliases = ["sql-lora*"]\n'
    path = config(aliased)
    assert "m/chat also counts sql-lora*" in invoke("config", "validate", path).stdout
    assert "m/chat also counts sql-lora*" in invoke("doctor", "-c", path).output.replace("\n", "")
    path = config(aliased + POOL.replace('"m"', '"other"') + 'aliases = ["*-lora"]\n')
    refused(
        invoke("config", "validate", path), 78, "'sql-lora*' and '*-lora' match two pools", "m/chat", "other/default"
    )


def test_aliases_do_not_shape_advice(config):
    plain = load(config(POOL)).config_hash()
    assert load(config(POOL + 'aliases = ["x"]\n')).config_hash() == plain


def test_what_comes_through_a_pipe_comes_from_the_file():
    reader, writer = os.pipe()
    os.write(writer, b'[kafka]\nbootstrap = "piped:1"\n')
    os.close(writer)
    try:
        shown = json.loads(invoke("config", "show", "-c", f"/dev/fd/{reader}", "-o", "json").stdout)
    finally:
        os.close(reader)
    assert {"key": "kafka.bootstrap", "value": "piped:1", "origin": "file"} in shown


def test_an_option_of_run_is_named_with_its_section():
    refused(invoke("run", "--bootstrap", ""), 78, "kafka.bootstrap: no broker is named")


def test_there_is_a_port_for_every_shard():
    with pytest.raises(ConfigError, match=r"publish.port 65535 with kafka.shards 2 .* at most 65534 would do"):
        run_all(load(publish={"port": 65_535}, kafka={"shards": 2}))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["absent.duckdb", "x.csv", "x.json", "x.duckdb", "empty.duckdb"])
@pytest.mark.parametrize("command", [["forecast", "score"], ["export", "out", "--store"]], ids=" ".join)
def test_a_file_that_is_no_store_is_wrong_input(tmp_path, monkeypatch, command, name):
    monkeypatch.chdir(tmp_path)
    if name != "absent.duckdb":
        (tmp_path / name).write_text("" if name.startswith("empty") else "a,b\n1,2\n" * 1_000)
    words = ("there is no store",) if name == "absent.duckdb" else ("is not a DuckDB file",)
    refused(invoke(*command, name), 2, name, *words)
