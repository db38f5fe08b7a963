"""`python -m systolith.gen.cli` is the command `systolith`."""

import sys

from .start import main

if __name__ == "__main__":
    sys.exit(main())
