"""``tokentide dashboards``: the Grafana dashboards as files, compared with a folder, or pushed to a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.common import clean_errors, notice
from pipeline.errors import InputError

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="The Grafana dashboards of this version.")

FolderArgument = Annotated[Path, typer.Argument(help="Folder with the dashboards, as Grafana's provisioning reads it.")]
_FINDINGS = 3


@app.command()
@clean_errors
def build(folder: FolderArgument) -> None:
    """Write the dashboards into a folder. Example: tokentide dashboards build /var/lib/grafana/dashboards"""
    files = _packaged()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in files:
            (folder / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the dashboards to {folder}: {error.strerror or error}") from error
    notice(f"{len(files)} dashboards written to {folder}")


@app.command()
@clean_errors
def check(folder: FolderArgument) -> None:
    """Say which dashboards of a folder are not those of this version; exit status 3 where there are any.

    Example: tokentide dashboards check /var/lib/grafana/dashboards
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected one with dashboards as JSON files")
    findings = [found for path in _packaged() if (found := _difference(path, folder / path.name))]
    for finding in findings:
        print(finding)
    if findings:
        raise typer.Exit(_FINDINGS)
    notice("every dashboard is the one of this version")


@app.command()
@clean_errors
def push(
    grafana: Annotated[str, typer.Option(help="Address of the Grafana server.")],
    token: Annotated[
        str, typer.Option(envvar="GRAFANA_TOKEN", help="Service-account token; better from the environment.")
    ],
) -> None:
    """Create or overwrite the dashboards in the folder "Tokentide" of a Grafana server.

    Needs the extra grafana. Example: tokentide dashboards push --grafana http://grafana:3000
    """
    from pipeline.publish.grafana import push as send

    for url in send(grafana, token, _packaged()):
        print(url)


def _packaged() -> list[Path]:
    from pipeline.config import resources

    return sorted(resources.find("dashboards/grafana").glob("*.json"))


def _difference(packaged: Path, found: Path) -> str:
    """What is wrong with one file of a folder; empty: nothing."""
    try:
        given = json.loads(found.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"{found} is missing"
    except OSError as error:
        raise InputError(f"cannot read {found}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{found}: expected a dashboard as JSON: {error}") from error
    return "" if given == json.loads(packaged.read_text(encoding="utf-8")) else f"{found} differs from this version"
