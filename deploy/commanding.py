"""Tell a robot what to do, on a thread of its own that nothing else can hold up.

The thread repeats the command, and is the dead man's switch: when the program hangs, no fresh
event comes, and after the rule's deadline it tells the safe command (deploy.core.commands).
"""

import threading
import time
from typing import List, Optional, Sequence

from deploy.core.commands import Commander, CommandRule, Decision
from deploy.core.errors import DeployError
from deploy.core.events import GestureEvent
from deploy.health import Health
from deploy.sink import CommandSink


class CommandDriver:
    """The command sinks of a run; errors holds what those that failed raised."""

    def __init__(self, rule: CommandRule, sinks: Sequence[CommandSink], health: Health) -> None:
        self.errors: List[DeployError] = []
        self._commander = Commander(rule)
        self._sinks = list(sinks)
        self._health = health
        self._changed = threading.Condition()
        self._told: Optional[Decision] = None
        self._is_closing = False
        self._thread = threading.Thread(target=self._drive, daemon=True)

    def start(self) -> None:
        """Open the sinks and begin with the safe command. Raises DeployError."""
        for sink in self._sinks:
            sink.start((0, 0), 0.0)
        self._thread.start()

    def take(self, event: GestureEvent) -> None:
        """Take in an event; what changes is told at once, by the thread."""
        with self._changed:
            self._commander.update(event, now_s=time.monotonic())
            self._changed.notify_all()

    def close(self) -> None:
        """Tell the safe command a last time and close the sinks."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        for sink in self._sinks:
            sink.close()

    def _drive(self) -> None:
        period_s = 1 / self._commander.rule.rate_hz
        while True:
            with self._changed:
                decision = self._commander.check(now_s=time.monotonic())
                if self._is_closing:
                    break
            self._tell(decision)
            with self._changed:
                if self._commander.decision is decision and not self._is_closing:
                    self._changed.wait(period_s)
        self._tell(Decision(self._commander.rule.safe, "exit"))

    def _tell(self, decision: Decision) -> None:
        is_change = decision is not self._told
        self._told = decision
        for sink in list(self._sinks):
            try:
                sink.write_command(decision, is_change=is_change)
            except DeployError as error:
                self._sinks.remove(sink)
                sink.close()
                self.errors.append(error)
                self._health.fault("sink", f"{error}; the other command sinks go on")
