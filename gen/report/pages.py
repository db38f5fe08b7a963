"""Pages that work without a network: body, style, script and data in one file."""

import json
import re
from html import escape, unescape
from importlib import resources
from typing import Any

from systolith.gen.kit.files import json_of

__all__ = ["content", "filled"]


def filled(name: str, title: str, data: Any) -> str:
    """A page: the frame page.html beside this module, with the body, style and script of this name
    (NAME.html, NAME.css, NAME.js), before it the script of all pages (page.js), and its data."""
    folder = resources.files(__package__)

    def text(file):
        return (folder / file).read_text().rstrip()
    made = text("page.html")
    for mark, part in (("BODY", text(f"{name}.html")), ("TITLE", escape(title)),
                       ("STYLE", text(f"{name}.css")),
                       ("SCRIPT", f"{text('page.js')}\n\n{text(f'{name}.js')}"),
                       # no end of the script's element may stand in it
                       ("DATA", json.dumps(data).replace("</", "<\\/"))):
        made = made.replace(f"@{mark}@", part)
    return made


def content(page: str) -> tuple[str, Any] | None:
    """(title, data) that a page was made of; None for a text that is no such page."""
    title = re.search(r"<title>(.*?)</title>", page)
    data = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    return (unescape(title[1]), json_of(data[1])) if title and data else None
