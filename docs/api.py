"""The names of `import systolith` from their docstrings.

As a hook of MkDocs (mkdocs.yml) this file puts them into the page reference/python.md, in the place
of the line <!-- api -->.
"""

import inspect
import re
import textwrap

PAGE, MARK = "reference/python.md", "<!-- api -->"


def call(name, thing):
    """How a function or class is called: parameters and defaults."""
    try:
        parameters = inspect.signature(thing).parameters.values()
    except ValueError:                      # exceptions
        return name
    shown = [str(parameter.replace(annotation=inspect.Parameter.empty)) for parameter in parameters]
    keyword = [n for n, p in enumerate(parameters) if p.kind is inspect.Parameter.KEYWORD_ONLY]
    if keyword:
        shown.insert(keyword[0], "*")
    # An object as a default is shown by its address, which says nothing.
    text = re.sub(r"<[\w.]+ object at \w+>", "...", ", ".join(shown))
    return textwrap.fill(f"{name}({text})", 88, subsequent_indent=" " * (len(name) + 1),
                         break_long_words=False)


def documented(text):
    """A docstring as Markdown: its sections of parameters and attributes are tables."""
    parts = []
    for block in re.split(r"\n\n", text):
        section = re.match(r"(Parameters|Attributes)\n-+\n(.*)", block, re.DOTALL)
        if section is None:
            parts.append(block)
            continue
        rows = []
        for line in section[2].split("\n"):
            if line.startswith(" "):
                rows[-1][2].append(line.strip())
            else:
                name, _, kind = line.partition(" : ")
                rows.append((name, kind, []))
        table = [f"| {section[1][:-1].lower()} | type | meaning |", "|---|---|---|"]
        table += [f"| {_codes(name)} | {_cell(kind)} | {_cell(' '.join(words))} |"
                  for name, kind, words in rows]
        parts.append("\n".join(table))
    return "\n\n".join(parts)


def _codes(names):
    return ", ".join(f"`{name}`" for name in names.split(", "))


def _cell(text):
    return text.replace("|", "\\|")


def api():
    """Every public name of the package but its version: functions, then classes."""
    import systolith
    parts = []
    for name in sorted(systolith.__all__, key=lambda name: (name[0].isupper(), name)):
        thing = getattr(systolith, name)
        if name.startswith("__"):
            continue
        parts.append(f"### {name}")
        if callable(thing) and call(name, thing) != name:
            parts.append(f"```python\n{call(name, thing)}\n```")
        parts.append(documented(inspect.getdoc(thing)))
    return "\n\n".join(parts)


def on_page_markdown(markdown, page, config, files):
    """MkDocs: the text of a page."""
    if page.file.src_uri != PAGE:
        return markdown
    assert markdown.count(MARK) == 1
    return markdown.replace(MARK, api())
