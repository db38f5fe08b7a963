"""The command `systolith`: arguments in, one function call, results shown.

Exit codes: 0 done; 1 something about the input is wrong, or a run did not come to its end; 2 the
command line is wrong; 3 a difference was found (the core and the golden model, or a failed
regression); 4 Systolith itself is at fault: one line says which files to send;
128 and the signal's number where one ended it: 130 for Ctrl-C, 143 for SIGTERM.
"""

import errno
import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from systolith.gen.kit.errors import ChipError, UserError
from systolith.gen.kit.faults import Fault, save_fault

from .command import FAULT, OK, WRONG
from .options import other_chip
from .parser import make_parser

__all__ = ["main"]

#: Errors of the system that say that there is no room for a file.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    with _ended_by_signals():
        return _main(arguments)


class _Ended(KeyboardInterrupt):
    """A signal asks for the end."""


@contextmanager
def _ended_by_signals():
    """Takes SIGTERM and SIGHUP as Ctrl-C, so that what runs is ended and what is unfinished
    removed; where they are ignored, as after nohup, they stay so. A signal that comes while Python
    runs what cannot fail, such as a finalizer, is sent once more: what it raises there is dropped.
    """
    def end(number, frame):
        raise _Ended(number)

    def dropped(what):
        if issubclass(what.exc_type, KeyboardInterrupt):
            number = (what.exc_value.args if what.exc_value else ()) or (signal.SIGINT,)
            again = threading.Timer(0.02, os.kill, (os.getpid(), number[0]))
            again.daemon = True
            again.start()
        else:
            hook(what)
    before, hook = {}, sys.unraisablehook
    sys.unraisablehook = dropped
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, end)
                  for number in (signal.SIGTERM, signal.SIGHUP)
                  if signal.getsignal(number) is signal.SIG_DFL}
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _main(arguments):
    options = None
    try:
        options = make_parser().parse_args(arguments)
        return options.run(options)
    except ChipError as error:
        model = getattr(options, "model", None)
        return _fail(error if model is None else f"{error}. {other_chip(model)}")
    except UserError as error:
        return _fail(error)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # The reader of the output has gone; nothing is left to say, also not at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return OK
        # Numpy says in words alone that a file could not be written.
        if error.errno in _FULL or (error.errno is None and "requested and" in str(error)):
            # A copy that fails names what was read first.
            name = (error.filename2 or error.filename or getattr(options, "output", None)
                    or "a file")
            return _fail(f"{name}: cannot be written, "
                         f"{(error.strerror or 'no space left on device').lower()}: free some "
                         "space there and in the temporary folder")
        if error.filename is None:
            return _fault(error, arguments, options)
        return _fail(f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt as error:
        print("interrupted", file=sys.stderr)
        return 128 + (error.args[0] if isinstance(error, _Ended) else signal.SIGINT)
    except MemoryError as error:
        return _fail(f"there is not enough memory for this input{f': {error}' * bool(str(error))}")
    except Fault as error:
        return _fail(error, FAULT)
    except Exception as error:
        # Whatever nobody has foreseen.
        return _fault(error, arguments, options)


def _fail(error, code=WRONG):
    # A name in the message may hold what a terminal would obey.
    text = "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in str(error))
    print(f"systolith: {text}", file=sys.stderr)
    return code


def _fault(error, arguments, options):
    """Say that Systolith is at fault; the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    given = [getattr(options, name, None) for name in ("model", "chip", "dir", "space", "inputs")]
    return _fail(save_fault(
        error, f"systolith {shlex.join(map(str, words))}",
        beside=getattr(options, "output", None),
        send=[item for item in given if item and Path(item).exists()]), FAULT)
