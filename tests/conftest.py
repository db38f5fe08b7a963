"""Property tests: no time limit for an example, since machines differ."""

from hypothesis import settings

# The parent is what hypothesis chose for this environment: on CI the examples are the same ones.
settings.register_profile("systolith", parent=settings(), deadline=None)
settings.load_profile("systolith")
