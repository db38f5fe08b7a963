"""A published figure and what came out here."""

from dataclasses import dataclass

__all__ = ["Figure"]


@dataclass(frozen=True)
class Figure:
    """One row of a study.

    Attributes
    ----------
    what : str
        What is measured.
    published, found : str
        The figure of the source, and that of this run.
    good : bool
        Whether what was found is as published, or better.
    """
    what: str
    published: str
    found: str
    good: bool
