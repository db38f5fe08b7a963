"""The one error that users see: what was wrong, where, and what would fix it."""

__all__ = ["ChipError", "UserError", "WrongFormat"]


class UserError(Exception):
    """A mistake in the input: printed as one message, without a traceback, exit code 1."""


class ChipError(UserError):
    """A network that this chip cannot compute, and that another one may."""


class WrongFormat(ChipError):
    """A layer whose numbers are in another format than the chip's."""
