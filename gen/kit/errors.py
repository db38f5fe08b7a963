"""The one error that users see: what was wrong, where, and what would fix it."""

import re
from collections.abc import Iterable

__all__ = ["ChipError", "MiddleError", "SignsOutside", "UserError", "WrongFormat", "one_line"]


class UserError(Exception):
    """A mistake in the input: printed as one message, without a traceback, exit code 1."""


class ChipError(UserError):
    """A network that this chip cannot compute, and that another one may."""


class MiddleError(UserError):
    """A node in the middle of a network that the chip cannot compute; `second` are the names of the
    tensors that the part of the network after it reads."""

    def __init__(self, message: str, second: Iterable[str]):
        super().__init__(message)
        self.second = second


class SignsOutside(UserError):
    """Maps of signs that do not fit the chip; `names` are those of the tensors."""

    def __init__(self, names: Iterable[str]):
        super().__init__(f"signs of {', '.join(map(repr, names))} do not fit the chip")
        self.names = names


class WrongFormat(ChipError):
    """A layer whose numbers are in another format than the chip's."""


def one_line(error: object, most: int = 400) -> str:
    """The text of another library's error in one line of at most `most` printable characters."""
    text = "".join(c if c.isprintable() else " " for c in str(error))
    # ONNX's own errors end with pages of context.
    text = re.sub(r"\s+", " ", re.split(r"==> Context", text)[0]).strip()
    return text if len(text) <= most else f"{text[:most]} ..."
