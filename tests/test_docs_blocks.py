"""What the documentation shows is what happens: commands, their outputs, Python, chips."""

import contextlib
import functools
import io
import os
import tomllib
from pathlib import Path

import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.cli import main
from systolith.gen.cli.parser import make_parser
from systolith.gen.flow import build as build_module
from systolith.gen.study.demo import write_example
from systolith.gen.study.sweep.space_file import read_space

from .docs_blocks import blocks, commands, missing

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "bench/README.md", ROOT / "examples/digits/README.md",
         *sorted((ROOT / "docs").rglob("*.md"))]
#: Pages whose commands are run one after the other; of all others they are parsed.
RUN = [ROOT / "docs" / page for page in (
    "tutorial/first-chip.md", "how-to/own-network.md", "how-to/quantize.md",
    "how-to/choose-a-chip.md")]
LONG = "SYSTOLITH_LONG_DOCS" in os.environ
SHELL = ("bash", "console")


def name(path):
    return str(path.relative_to(ROOT))


def cases(*languages):
    """Every block of these languages as a test's parameter, called PAGE:LINE."""
    return [pytest.param(block, id=f"{name(page)}:{block.line}") for page in PAGES
            for block in blocks(page.read_text()) if block.language in languages]


@pytest.mark.parametrize("block", cases(*SHELL, ""))
def test_commands_parse(block):
    parser = make_parser()
    for words in commands(block):
        if words[0] == "systolith" and words != ["systolith", "--version"]:
            parser.parse_args(words[1:])
        elif words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), words[1]


@pytest.mark.parametrize("block", cases("toml"))
def test_chips_load(block, tmp_path):
    if "array" in tomllib.loads(block.text):
        path = tmp_path / "chip.toml"
        path.write_text(block.text)
        assert load_chip(str(path)).rows >= 1


class Session:
    """What a reader does who follows a page from its top, in a folder of his own."""

    def __init__(self):
        self.names, self.output = {}, ""

    def run(self, block):
        kind, words = block.mark or (None, None)
        if kind == "file":
            Path(words).write_text(block.text)
            if block.language == "toml" and "group" in tomllib.loads(block.text):
                points = read_space(words).points
                assert points and not any(point.problem for point in points)
        elif block.language == "text":
            lost = missing(block.text, self.output)
            assert lost is None, f"line {block.line}: not in the output: {lost}\n{self.output}"
        elif block.language in ("python", *SHELL):
            self.output = ""
            if not block.skipped or (kind == "long" and LONG):
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    if block.language == "python":
                        exec(compile(block.text, f"line {block.line}", "exec"), self.names)
                    else:
                        self.shell(block, int(words) if kind == "exit" else 0)
                self.output = out.getvalue()

    def shell(self, block, code):
        codes = []
        for first, *arguments in commands(block):
            assert first == "systolith", f"line {block.line}: {first}"
            codes.append(main.main(arguments))
        assert codes == [0] * (len(codes) - 1) + [code], f"line {block.line}: exit codes {codes}"


#: Several pages build the same chips.
once = functools.cache(build_module.core_verilog)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder but for `digits`, the example files."""
    monkeypatch.setattr(build_module, "core_verilog", once)
    write_example(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", RUN, ids=name)
def test_pages_run(page, folder):
    session, skipped = Session(), False
    for block in blocks(page.read_text()):
        if block.language != "text":
            skipped = block.skipped and not (LONG and block.mark[0] == "long")
        if not (skipped and block.language == "text"):
            session.run(block)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in RUN and any(
    block.language == "python" for block in blocks(page.read_text()))], ids=name)
def test_python_runs(page, folder):
    session = Session()
    before = None
    for block in blocks(page.read_text()):
        if block.language == "python" or (block.language == "text" and before == "python"):
            session.run(block)
        before = block.language


def test_blocks_are_found_with_their_marks():
    page = ("text\n<!-- long: it\ntakes hours -->\n"
            "```bash\nsystolith build \\\n  a # b\nx && y | z\n```\n\n"
            "<!-- file: a.toml -->\n```toml\n[array]\n```\n"
            "- item\n\n  ```text\n  a\n   b\n  ```\n")
    shell, toml, text = blocks(page)
    assert shell.skipped and shell.mark == ("long", "it\ntakes hours") and shell.line == 4
    assert commands(shell) == [["systolith", "build", "a"], ["x"], ["y"]]
    assert toml.mark == ("file", "a.toml") and not toml.skipped and toml.text == "[array]\n"
    assert text.text == "a\n b\n" and text.mark is None


def test_missing_output_is_found():
    output = "one\ntwo   2\nthree\n"
    assert missing("one\n...\nthree", output) is None
    assert missing("two 2\none", output) == "one"
    assert missing("four", output) == "four"
