"""Chip descriptions that come with Systolith: each TOML file here is one."""

from importlib import resources

__all__ = ["preset_names"]


def preset_names() -> list[str]:
    """Names of the shipped chips, smallest first."""
    folder = resources.files(__name__)
    names = [item.name.removesuffix(".toml") for item in folder.iterdir()
             if item.name.endswith(".toml")]
    order = {"icebreaker": 0, "tiny": 0, "ulx3s": 1, "pynq": 2, "sim": 3, "big": 4}
    return sorted(names, key=lambda name: (order.get(name.split("-")[0], 1), name))
