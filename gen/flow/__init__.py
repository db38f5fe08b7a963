"""What the main commands do, from a file to a result: check, build, simulate, compare."""
