"""The command thread: changes at once, repetitions, the dead man's switch, the end."""

import time

import pytest

from deploy.commanding import CommandDriver
from deploy.core.commands import Command, CommandRule
from deploy.core.errors import DeployError
from deploy.core.events import GestureEvent
from deploy.core.smoother import Phase
from deploy.health import Health

RULE = CommandRule({"ok": Command("go", 0.3)}, Command("stop"), deadline_s=0.6, rate_hz=50.0)


class Robot:
    """A command sink that keeps what it is told; fails at the given message."""

    uri = "robot"

    def __init__(self, fail_at=None):
        self.told = []
        self.is_closed = False
        self._fail_at = fail_at

    def start(self, image_wh, fps):
        """Nothing to open."""

    def write_command(self, decision, *, is_change):
        if len(self.told) == self._fail_at:
            raise DeployError("robot is gone")
        self.told.append((time.monotonic(), decision.command.name, decision.reason, is_change))

    def close(self):
        self.is_closed = True

    def changes(self):
        return [(name, reason) for _, name, reason, is_change in self.told if is_change]


def event(phase, gesture="ok"):
    return GestureEvent(0.0, "", 0, 1, gesture, 0.9, Phase(phase), None, None, (1, 1), 0.0)


@pytest.fixture
def robot():
    return Robot()


@pytest.fixture
def driver(robot):
    driver = CommandDriver(RULE, [robot], Health())
    driver.start()
    yield driver
    driver.close()


def test_change_is_told_at_once_and_repeated(driver, robot):
    time.sleep(0.05)
    began_s = time.monotonic()
    driver.take(event("begin"))
    time.sleep(0.3)
    told = [row for row in robot.told if row[1] == "go"]
    assert told[0][0] - began_s < 0.05
    assert [row[3] for row in told] == [True] + [False] * (len(told) - 1)
    assert len(told) >= 5


def test_silence_is_the_safe_command_after_the_deadline(driver, robot):
    driver.take(event("begin"))
    began_s = time.monotonic()
    time.sleep(RULE.deadline_s + 0.3)
    stopped = next(row for row in robot.told if row[2] == "deadline")
    assert stopped[0] - began_s == pytest.approx(RULE.deadline_s, abs=0.2)
    assert robot.changes() == [("stop", "start"), ("go", "gesture"), ("stop", "deadline")]


def test_end_of_the_run_is_the_safe_command(robot):
    driver = CommandDriver(RULE, [robot], Health())
    driver.start()
    driver.take(event("begin"))
    time.sleep(0.1)
    driver.close()
    assert robot.changes()[-2:] == [("go", "gesture"), ("stop", "exit")]
    assert robot.is_closed


def test_sink_that_fails_is_left_and_the_others_go_on(robot):
    broken, health = Robot(fail_at=1), Health()
    driver = CommandDriver(RULE, [broken, robot], health)
    driver.start()
    time.sleep(0.1)
    driver.take(event("begin"))
    time.sleep(0.1)
    driver.close()
    assert (len(broken.told), broken.is_closed) == (1, True)
    assert ("go", "gesture") in robot.changes()
    assert [str(error) for error in driver.errors] == ["robot is gone"]
    assert health.snapshot().faults == {"sink": 1}
