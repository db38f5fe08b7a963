"""A page as a browser has it."""

import shutil
import subprocess

import pytest

__all__ = ["text_of"]


def text_of(path, *options):
    """The page's elements as a browser has them once its script has run."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed")
    found = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000",
         "--dump-dom", *options, path.as_uri()], capture_output=True, text=True, timeout=60)
    return found.stdout
