"""What a command is: what its help says, what it takes, what it does, and the exit codes."""

from abc import ABC, abstractmethod
from argparse import ArgumentParser, Namespace

__all__ = ["FAULT", "MISMATCH", "OK", "WRONG", "Command"]

OK, WRONG, MISMATCH, FAULT = 0, 1, 3, 4


class Command(ABC):
    """One command of `systolith`; a subclass states the attributes and has both methods.

    Modules of commands import nothing heavy at their top, so that each run of `systolith` loads
    what its own command needs and no more.

    Attributes
    ----------
    name : str
        The word on the command line.
    summary : str
        One line, for the list of commands.
    text : str
        What the command does, for its help.
    examples : str
        Command lines, one each line.
    """
    name: str
    summary: str
    text: str
    examples: str

    @abstractmethod
    def arguments(self, parser: ArgumentParser) -> None:
        """Add the command's arguments to its `argparse.ArgumentParser`."""

    @abstractmethod
    def run(self, options: Namespace) -> int:
        """Do it, with the parsed arguments. Returns the exit code; raises UserError."""
