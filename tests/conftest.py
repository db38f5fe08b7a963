"""Property tests: the same examples in every run, so that a failure is the fault of the change, not
of chance; no time limit for an example, since machines differ.

`pytest --hypothesis-profile random` draws new ones.
"""

import os

import pytest
from hypothesis import settings
from systolith.gen.importer.host.ends import Host
from systolith.gen.importer.host.work import Work

from .tools import tools

__all__ = ["tools"]

settings.register_profile("random", derandomize=False, deadline=None)
settings.register_profile("systolith", derandomize=True, deadline=None)
settings.load_profile("systolith")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Nothing that an earlier run has kept, nor what the user's own runs have; but runs of
    the tests may share a folder (`bench/mutants.py`)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYSTOLITH_CACHE", os.environ.get("SYSTOLITH_TEST_CACHE")
                     or str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def chip_alone(monkeypatch):
    """Nothing is left to the host: what the chip refuses is refused, also at a network's ends."""
    monkeypatch.setattr(Work, "is_small", lambda self, nodes: False)
    monkeypatch.setattr(Host, "_prepares", lambda self, node, inputs: False)
