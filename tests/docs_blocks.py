"""Fenced blocks of a page: which language, what is said about them, and the output that follows.

A comment on the line before a fence says how a block is tested:

- `<!-- long: WHY -->`, `<!-- needs: WHY -->`: it is not run, its commands are parsed only;
  blocks marked `long` are run where SYSTOLITH_LONG_DOCS is set.
- `<!-- file: NAME -->`: what it holds is written to that file;
- `<!-- exit: CODE -->`: its last command ends with that exit code.

A ```text block after one that is run holds lines of its output, in their order; `...` is any lines.
"""

import re
import shlex
from dataclasses import dataclass

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
                   re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- (long|needs|file|exit): ((?:(?!-->).)*) -->\n\s*$", re.DOTALL)


@dataclass
class Block:
    """A fenced block: language, text, line in the page, and its mark (kind, words) or None."""
    language: str
    text: str
    line: int
    mark: tuple[str, str] | None

    @property
    def skipped(self):
        """Whether it is not run."""
        return self.mark is not None and self.mark[0] in ("long", "needs")


def blocks(text):
    """The fenced blocks of a page's text."""
    found = []
    for match in FENCE.finditer(text):
        mark = MARK.search(text[:match.start()])
        found.append(Block(match["language"], re.sub(rf"^{match['indent']}", "", match["text"],
                                                     flags=re.MULTILINE),
                           text.count("\n", 0, match.start()) + 1,
                           mark and (mark[1], mark[2])))
    return found


def commands(block):
    """The commands of a shell block, each as its words; comments are left out, and what a command's
    output is piped to."""
    text = block.text.replace("\\\n", " ")
    lines = (shlex.split(line.removeprefix("$ "), comments=True) for line in text.splitlines())
    return [next(_between(words, "|")) for line in lines if line
            for words in _between(line, "&&")]


def _between(words, mark):
    """Lists of words between marks."""
    part = []
    for word in words:
        if word == mark:
            yield part
            part = []
        else:
            part.append(word)
    yield part


def missing(shown, output):
    """The first line of a page's ```text block that the output lacks in this order, or None."""
    lines = [_plain(line) for line in output.splitlines()]
    at = 0
    for line in map(_plain, shown.splitlines()):
        if line in ("", "..."):
            continue
        found = next((n for n in range(at, len(lines)) if line in lines[n]), None)
        if found is None:
            return line
        at = found + 1
    return None


def _plain(line):
    return " ".join(line.split())
