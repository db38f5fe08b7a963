"""The generated pages say what the code says; texts for users use the field's words."""

import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: Words for places in the order of a network or a program: "after" and "before" are the field's.
UNCLEAR = re.compile(r"\bbehind\b|\bin\s+(#:?\s+)?front\b", re.IGNORECASE)


def test_reference_pages_are_current():
    done = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def texts_of(code):
    """(line, text) of each string and each comment in Python code, docstrings among them."""
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    for token in tokens:
        if tokenize.tok_name[token.type] in ("COMMENT", "STRING", "FSTRING_MIDDLE"):
            yield token.start[0], token.string


def unclear(path):
    """Words of `UNCLEAR` in a page, or in a module's strings and comments, as FILE:LINE: WORD."""
    text = path.read_text()
    texts = [(1, text)] if path.suffix == ".md" else texts_of(text)
    return [f"{path.relative_to(ROOT)}:{line + part.count(chr(10), 0, found.start())}: {found[0]!r}"
            for line, part in texts for found in UNCLEAR.finditer(part)]


@pytest.mark.parametrize("folder", [".", "bench", "docs", "gen", "hw", "sim"])
def test_texts_say_before_and_after(folder):
    pages = [ROOT / "README.md"] if folder == "." else [
        *(ROOT / folder).rglob("*.md"), *(ROOT / folder).rglob("*.py")]
    assert pages
    assert [place for page in pages for place in unclear(page)] == []


def named_pages(path):
    """What a file names, as (line, path): pages of docs/; in a page also sources and links."""
    text = path.read_text()
    for found in re.finditer(r"\bdocs/[\w/-]+\.(?:md|png|svg|py)", text):
        yield text.count("\n", 0, found.start()) + 1, ROOT / found[0]
    if path.suffix == ".md":
        for found in re.finditer(r"\b(?:hw|sim|gen|tests|bench|examples)/[\w/-]+\.py", text):
            yield text.count("\n", 0, found.start()) + 1, ROOT / found[0]
        for found in re.finditer(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            yield text.count("\n", 0, found.start()) + 1, path.parent / found[1]


def sources():
    """Python files and pages of the repository, without history and what tools write."""
    folders = [ROOT / name for name in ("bench", "docs", "examples", "gen", "hw", "sim", "tests")]
    yield ROOT / "README.md"
    for folder in folders:
        yield from (path for kind in ("*.py", "*.md") for path in sorted(folder.rglob(kind)))


def test_pages_that_are_named_exist():
    named = [(path, line, target) for path in sources() for line, target in named_pages(path)]
    assert len(named) > 100
    assert [f"{path.relative_to(ROOT)}:{line}: {target}" for path, line, target in named
            if not target.exists() and target.name != "tour.md"] == []     # made from the notebook


def test_every_page_is_in_the_navigation():
    listed = re.findall(r"^ *- (?:[\w -]+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(),
                        re.MULTILINE)
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert pages | {"tutorial/tour.md"} == set(listed) and len(listed) == len(pages) + 1


def bold_by_mistake(text):
    """Parts of a page with two powers (2**n) outside of code: what is between would be bold."""
    text = re.sub(r"^```.*?^```|^    .*?$|`[^`\n]+`", "code", text, flags=re.MULTILINE | re.DOTALL)
    parts = re.split(r"\n\s*\n|\|", text)
    return [part for part in parts if len(re.findall(r"\w\*\*[-\w(]", part)) > 1]


def test_powers_are_not_bold():
    for page in sources():
        if page.suffix == ".md":
            assert bold_by_mistake(page.read_text()) == [], page
    assert bold_by_mistake("2**4 and\n2**-5\n\n2**6") == ["2**4 and\n2**-5"]
    assert not bold_by_mistake(
        "`2**4` and 2**5\n\n    2**6 2**7\n\n| 2**3 | 2**4 |\n**bold** **b**")


def test_unclear_words_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "page.md").write_text("one\nput it in\nfront of the layer\n")
    (tmp_path / "code.py").write_text(
        '"""Behind."""\n\nbehind = y_behind = f"{1} stands behind {2}"     # in front of it\n')
    assert unclear(tmp_path / "page.md") == ["page.md:2: 'in\\nfront'"]
    assert unclear(tmp_path / "code.py") == [
        "code.py:1: 'Behind'", "code.py:3: 'behind'", "code.py:3: 'in front'"]
