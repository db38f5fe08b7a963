"""Property tests: the same examples in every run, so that a failure is the fault of the change, not
of chance; no time limit for an example, since machines differ.

`pytest --hypothesis-profile random` draws new ones.
"""

from hypothesis import settings

settings.register_profile("random", derandomize=False, deadline=None)
settings.register_profile("systolith", derandomize=True, deadline=None)
settings.load_profile("systolith")
