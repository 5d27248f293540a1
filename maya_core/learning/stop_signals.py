"""How a run hears that it should leave."""

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)


class StopSignals:
    """Remembers the first signal that asks this process to leave; a second SIGINT does what it did before. Processes
    that prepare data get the terminal's signals too, and leave them to this one."""

    signals = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

    def __init__(self) -> None:
        self.received = 0
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self.signals}
        return self

    def __exit__(self, *_: object) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _note(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:
            return
        if self.received and number == signal.SIGINT:
            self.__exit__()
            signal.raise_signal(number)  # for whoever heard them before
        self.received = self.received or number
        log.warning("leaving after this step")
