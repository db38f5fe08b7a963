"""Pages that work without a network: a template with its style, script and data in one file."""

import json
from html import escape
from importlib import resources
from typing import Any

__all__ = ["filled"]


def filled(name: str, title: str, data: Any) -> str:
    """The template NAME.html beside this module with its style, script and data."""
    folder = resources.files(__package__)

    def text(suffix):
        return (folder / f"{name}.{suffix}").read_text()
    made = text("html")
    for mark, part in (("TITLE", escape(title)), ("STYLE", text("css")), ("SCRIPT", text("js")),
                       # no end of the script's element may stand in it
                       ("DATA", json.dumps(data).replace("</", "<\\/"))):
        made = made.replace(f"@{mark}@", part)
    return made
