"""A child of the supervisor that is still starting."""

import os
import signal
import threading
import time
from functools import partial

from relay.process.supervisor import CHILD_UNBLOCKS, Child, Supervisor


def starts_slowly(report: int, lifeline: int) -> int:
    """Takes a while until it has handlers; then says what reached it."""
    os.write(report, b"born ")
    time.sleep(0.2)
    heard = []
    signal.signal(signal.SIGHUP, lambda *_: heard.append(b"reload "))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CHILD_UNBLOCKS)
    os.write(report, b"".join(heard) + b"ready ")
    while os.read(lifeline, 1):
        pass
    return 0


def read_until(report: int, word: bytes) -> bytes:
    said = b""
    while word not in said:
        said += os.read(report, 100)
    return said


def test_a_reload_during_the_start_is_kept_for_later():
    ours, theirs = os.pipe()
    supervisor = os.fork()
    if not supervisor:
        status = Supervisor([Child("slow", partial(starts_slowly, theirs))], lambda *_, **__: None).run()
        os._exit(status)
    ending = threading.Timer(30, os.kill, (supervisor, signal.SIGKILL))
    ending.start()
    try:
        read_until(ours, b"born ")
        os.kill(supervisor, signal.SIGHUP)
        said = read_until(ours, b"ready ")
    finally:
        os.kill(supervisor, signal.SIGTERM)
        os.waitpid(supervisor, 0)
        ending.cancel()
        os.close(ours)
        os.close(theirs)
    assert said == b"reload ready ", "and it was born once"
