"""Arithmetic computation effort of a published network, from its shapes."""

from ..pokebnn import PUBLISHED, pokebnn
from .figure import Figure

__all__ = ["pokebnns"]


def pokebnns() -> list[Figure]:
    """ACE of PokeBNN of each published width."""
    figures = []
    for multiplier, published in PUBLISHED.items():
        found = f"{pokebnn(multiplier).ace / 1e9:.2f}"
        figures.append(Figure(f"PokeBNN {multiplier:g}x: ACE in G", f"{published:.2f}", found,
                              found == f"{published:.2f}"))
    return figures
