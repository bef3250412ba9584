"""What the files about the project say of each other: one version, links that lead somewhere, a harmless extra."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from packaging.requirements import Requirement

import pipeline

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LEFT_OUT = {".venv", ".venv-statsforecast", ".git", "build", "dist", "node_modules", ".pytest_cache"}
PAGES = sorted(
    path.relative_to(ROOT)
    for path in ROOT.rglob("*.md")
    if not LEFT_OUT & set(path.relative_to(ROOT).parts) and not path.is_symlink()
)
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors that a forge gives the headings of a page, and those that it names itself."""
    found: set[str] = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        at = 0
        while (numbered := f"{name}-{at}" if at else name) in found:
            at += 1
        found.add(numbered)
    return found


def broken_links(page: Path) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    broken = []
    for target in LINK.findall(re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue  # another site: not looked up, tests need no network
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / unquote(path) if path else ROOT / page
        if not file.exists():
            broken.append(f"{target}: there is no such file")
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
            broken.append(f"{target}: there is no such heading")
    return broken


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_of_the_documentation_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_the_link_check_finds_what_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "a.md").write_text("# One `x`\n# One `x`\n```\n# no heading\n[n](none)\n```\n")
    (tmp_path / "b.md").write_text("[](a.md) [](a.md#one-x-1) [](a.md#no-heading) [](c.md) [](#b) [](https://x.y/z)\n")
    assert broken_links(Path("a.md")) == []
    assert [entry.partition(":")[0] for entry in broken_links(Path("b.md"))] == ["a.md#no-heading", "c.md", "#b"]


def test_the_version_is_the_same_everywhere() -> None:
    assert "version" in PROJECT["dynamic"]
    assert version("tokentide") == pipeline.__version__
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert compose["services"]["tokentide"]["image"] == f"tokentide:{pipeline.__version__}"


def test_the_changelog_has_a_section_for_each_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+(?:[a-z]+\d+)? – \d{4}-\d\d-\d\d", section) for section in sections[1:])
    assert pipeline.__version__ in {section.split()[0] for section in sections[1:]}


def _all_of(name: str, extra: str = "") -> set[str]:
    """A distribution and what it pulls in, by name."""
    found: set[str] = set()
    waiting = [(name, extra)]
    while waiting:
        name, extra = waiting.pop()
        for line in distribution(name).requires or ():
            needed = Requirement(line)
            if needed.marker is not None and not needed.marker.evaluate({"extra": extra}):
                continue
            if needed.name.lower() not in found:
                found.add(needed.name.lower())
                waiting.append((needed.name, ""))
    return found


@pytest.mark.slow
def test_the_grafana_extra_leaves_the_urllib3_of_the_environment_alone() -> None:
    try:
        needed = _all_of("tokentide", "grafana")
    except PackageNotFoundError as error:
        pytest.skip(f"{error} is not installed")
    assert "grafana-client" in needed
    assert not needed & {"niquests", "urllib3-future"}, "urllib3-future writes over the files of urllib3"
    owners = {name.lower() for name in packages_distributions().get("urllib3", [])}
    assert needed & owners <= {"urllib3"}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock", "requirements-statsforecast.lock"])
def test_locks_hold_hashes_and_no_addresses(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    pins = re.findall(r"^([a-z0-9][\w.-]*)==", text, re.MULTILINE | re.IGNORECASE)
    blocks = re.split(r"^(?=[a-z0-9][\w.-]*==)", text, flags=re.MULTILINE | re.IGNORECASE)[1:]
    assert len(blocks) == len(pins) > 50
    assert all("--hash=sha256:" in block for block in blocks)
    assert not re.search(r"https?://|--(?:extra-)?index-url|--find-links", text)


def test_every_lock_meets_what_the_project_asks_for() -> None:
    """The product's lock holds the dependencies; that of development adds to it and changes none of its pins."""
    product, development = (_pins(name) for name in ("requirements.lock", "requirements-dev.lock"))
    for line in PROJECT["dependencies"]:
        needed = Requirement(line)
        assert all(needed.specifier.contains(pin) for pin in product[needed.name.lower()]), needed
    assert {name: development.get(name) for name in product} == product


def _pins(lock: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, pin in re.findall(r"^([\w.-]+)==([^\s;\\]+)", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE):
        found.setdefault(name.lower(), set()).add(pin)
    return found
