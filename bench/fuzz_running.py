"""How a damaged input is tried: in a process of its own, within a time and a memory limit, and what
counts as a clear message."""

import os
import resource
import select
import signal
import time
from pathlib import Path

__all__ = ["ACCEPTED", "MEMORY", "confined", "wrong_message"]

#: What an attempt gives for an input that is none the worse for its damage.
ACCEPTED = "accepted"
MEMORY = 2 << 30                # bytes


def confined(function, seconds, memory=MEMORY):
    """(text or None, what went wrong or None) of a function that returns a text, in a process of
    its own, which may compute for so many seconds, be there for ten times as long, and hold so many
    bytes."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _confine(memory, seconds)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10 * seconds)
        try:
            os.write(writer, b"+" + function().encode(errors="replace")[:60000])
        except BaseException as error:
            place = error.__traceback__
            while place.tb_next is not None:
                place = place.tb_next
            code = place.tb_frame.f_code
            text = f"{type(error).__name__}: {error} ({Path(code.co_filename).name} {code.co_name})"
            os.write(writer, b"-" + text.encode(errors="replace")[:2000])
        os._exit(0)
    os.close(writer)
    text = _read(reader, 10 * seconds + 5)
    _, status, usage = os.wait4(child, 0)
    if os.WIFSIGNALED(status):
        return None, f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
    if usage.ru_maxrss << 10 > memory:
        return None, f"held {usage.ru_maxrss >> 10} MiB"
    if not text.startswith("+"):
        return None, text[1:] or "ended without a word"
    return text[1:], None


def _confine(memory, seconds):
    used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    with open("/proc/self/statm") as file:
        present = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (present + memory, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, used + seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _read(reader, seconds):
    parts, end = [], time.monotonic() + seconds
    with os.fdopen(reader, "rb", buffering=0) as file:
        while select.select([file], [], [], max(0, end - time.monotonic()))[0]:
            part = file.read(1 << 16)
            if not part:
                break
            parts.append(part)
    return b"".join(parts).decode(errors="replace")


def wrong_message(text):
    """What is wrong with a message, or None."""
    if text != ACCEPTED and (not text.strip() or len(text) > 4000 or "\n" in text.strip()
                               or "\x1b" in text or "Traceback" in text):
        return f"no clear message: {text[:300]!r}"
    return None
