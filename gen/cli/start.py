"""Where the command `systolith` begins: Ctrl-C while its modules are loaded ends it in one line."""

import signal
import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line; the exit code."""
    try:
        from .main import main as run
        return run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
