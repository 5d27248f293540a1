"""A process that is killed at a chosen call to the system; for scripts that fork and set `state`."""

import os
import signal
import sys

CALLS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.fsync")
state = {"calls": 0, "kill_at": 0}


def tick(event, arguments):
    if event in CALLS:
        state["calls"] += 1
        if state["calls"] == state["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)


def fsync(descriptor, real=os.fsync):
    sys.audit("os.fsync")
    real(descriptor)


os.fsync = fsync
sys.addaudithook(tick)
