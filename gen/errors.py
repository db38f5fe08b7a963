"""The one error that users see: what was wrong, where, and what would fix it."""

__all__ = ["UserError", "WrongFormat"]


class UserError(Exception):
    """A mistake in the input: printed as one message, without a traceback, exit code 1."""


class WrongFormat(UserError):
    """A layer whose numbers are in another format than the chip's."""
