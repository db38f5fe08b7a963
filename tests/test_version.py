"""One version: pyproject.toml says it, the changelog's newest heading agrees, and tags follow."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEADING = re.compile(r"^## (\S+) \((unreleased|\d{4}-\d\d-\d\d)\)$", re.MULTILINE)


def stated(pyproject, changelog):
    """(version, whether it is a release); AssertionError where the two texts disagree."""
    version = tomllib.loads(pyproject)["project"]["version"]
    match = re.fullmatch(r"(\d+\.\d+\.\d+)(\.dev0)?", version)
    assert match, f"version {version!r} is neither X.Y.Z nor X.Y.Z.dev0"
    number, date = HEADING.search(changelog).groups()
    assert match[1] == number, f"pyproject.toml is at {version}, CHANGELOG.md at {number}"
    assert (date == "unreleased") == bool(match[2]), f"version {version}, but {number} is {date}"
    return version, not match[2]


def test_the_version_is_stated_once_and_followed_by_the_tag():
    version, release = stated((ROOT / "pyproject.toml").read_text(),
                              (ROOT / "CHANGELOG.md").read_text())
    if not (ROOT / ".git").exists():
        return                                          # an unpacked sdist
    tags = subprocess.run(["git", "tag", "--points-at", "HEAD", "--list", "v*"], cwd=ROOT,
                          capture_output=True, text=True, check=True).stdout.split()
    assert not tags or (release and tags == [f"v{version}"])


@pytest.mark.parametrize("version, heading, words", [
    ("0.2.0", "0.2.0 (unreleased)", "but 0.2.0 is unreleased"),
    ("0.2.0.dev0", "0.2.0 (2026-11-28)", "but 0.2.0 is 2026-11-28"),
    ("0.2.0.dev0", "0.1.0 (unreleased)", "CHANGELOG.md at 0.1.0"),
    ("0.2", "0.2 (2026-11-28)", "neither X.Y.Z nor"),
])
def test_disagreements_are_found(version, heading, words):
    with pytest.raises(AssertionError, match=re.escape(words)):
        stated(f'[project]\nversion = "{version}"\n', f"# Changelog\n\n## {heading}\n")


@pytest.mark.parametrize("version, date", [("1.10.0", "2026-11-28"), ("1.10.0.dev0", "unreleased")])
def test_agreement(version, date):
    changelog = f"# Changelog\n\n## 1.10.0 ({date})\n\n## 1.9.0 (2025-01-01)\n"
    assert stated(f'[project]\nversion = "{version}"\n', changelog) == (
        version, "dev" not in version)
