"""Sweeps: spaces of chips, the search in them, and what is kept of it."""
