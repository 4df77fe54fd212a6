"""From gesture events to robot commands, with a dead-man rule.

A rule maps gestures to commands; one of them is the safe command (usually: stand still). What the
robot is told follows these sentences:

- A hand that begins a mapped gesture owns the robot until its gesture ends, is lost, or another
  hand begins a mapped gesture: the newest hand owns it.
- While any hand shows a gesture whose command is the safe one, the command is the safe one.
- When the owner's gesture ends or is lost, the command is the safe one. A gesture that another
  hand still shows does not take over: a robot must not start because something ended.
- No event of the owner for `deadline_s` means the safe command, until a gesture begins again.
- Where the rule has `arm`, a hand's gestures count only once the same hand has shown that one, and
  until it has shown none for `for_s`; what means the safe command always counts. Hands that rest
  look like gestures (docs/results.md, Gestures of people that were never seen), but not like two
  gestures in a row.

Time is what the caller's monotonic clock says; nothing here reads one.
"""

import json
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence, Set

from deploy.core.errors import DeployError
from deploy.core.events import GestureEvent
from deploy.core.smoother import DEFAULT_RULE, Phase

SCHEMA_VERSION = 1
RULE_KEYS = ("gestures", "safe", "deadline_ms", "rate_hz", "arm")
ARM_KEYS = ("gesture", "for_ms")
COMMAND_KEYS = ("name", "linear", "angular")
DEFAULT_DEADLINE_MS = 1000.0
DEFAULT_RATE_HZ = 10.0
DEFAULT_ARMED_MS = 5000.0


class Command(NamedTuple):
    """A name and a velocity as in ROS's Twist: linear in m/s along x, angular in rad/s about z."""

    name: str
    linear: float = 0.0
    angular: float = 0.0


class Arm(NamedTuple):
    """gesture: the class name that a hand shows before others of its gestures count; for_s: how
    long they do after its last one."""

    gesture: str
    for_s: float = DEFAULT_ARMED_MS / 1e3


class CommandRule(NamedTuple):
    """gestures: command by class name; rate_hz: how often an unchanged command is repeated; arm:
    None lets every gesture count."""

    gestures: Dict[str, Command]
    safe: Command = Command("stop")
    deadline_s: float = DEFAULT_DEADLINE_MS / 1e3
    rate_hz: float = DEFAULT_RATE_HZ
    arm: Optional[Arm] = None


class Decision(NamedTuple):
    """What the robot is told and why.

    reason: start, gesture, end, lost, deadline or exit; gesture, track: of the hand behind it.
    """

    command: Command
    reason: str
    gesture: Optional[str] = None
    track: Optional[int] = None


class Commander:
    """The state of one robot; every method returns the decision that holds now."""

    def __init__(self, rule: CommandRule) -> None:
        self.rule = rule
        self.decision = Decision(rule.safe, "start")
        self._owner: Optional[int] = None
        self._stopping: Set[int] = set()
        self._fresh_s = 0.0
        # When each armed hand showed its last gesture.
        self._armed_s: Dict[int, float] = {}

    def update(self, event: GestureEvent, *, now_s: float) -> Decision:
        """Take in an event that was told at now_s."""
        self._update_armed(event, now_s)
        if event.phase in (Phase.END, Phase.LOST):
            self._stopping.discard(event.track)
            if event.track == self._owner:
                self._stand(
                    Decision(self.rule.safe, event.phase.value, event.gesture, self._owner)
                )
        elif event.phase is Phase.HOLD:
            if event.track == self._owner:
                self._fresh_s = now_s
        elif event.gesture in self.rule.gestures and self._counts(event):
            self._begin(event, now_s)
        return self.check(now_s=now_s)

    def check(self, *, now_s: float) -> Decision:
        """Apply the deadline. Call it often: as often as the robot may be late."""
        if self._owner is not None and now_s - self._fresh_s > self.rule.deadline_s:
            track = self._owner
            self._stopping.clear()
            self._stand(Decision(self.rule.safe, "deadline", None, track))
        return self.decision

    def _update_armed(self, event: GestureEvent, now_s: float) -> None:
        arm, track = self.rule.arm, event.track
        if arm is None:
            return
        armed = self._armed_s.items()
        self._armed_s = {hand: at_s for hand, at_s in armed if now_s - at_s <= arm.for_s}
        if event.phase is Phase.LOST:
            self._armed_s.pop(track, None)
        elif event.gesture == arm.gesture or track in self._armed_s:
            self._armed_s[track] = now_s

    def _counts(self, event: GestureEvent) -> bool:
        """Whether a mapped gesture that begins is obeyed."""
        is_safe = self.rule.gestures[str(event.gesture)] == self.rule.safe
        return self.rule.arm is None or is_safe or event.track in self._armed_s

    def _begin(self, event: GestureEvent, now_s: float) -> None:
        command = self.rule.gestures[str(event.gesture)]
        self._owner, self._fresh_s = event.track, now_s
        if command == self.rule.safe:
            self._stopping.add(event.track)
        if self._stopping:
            command = self.rule.safe
        self.decision = Decision(command, "gesture", event.gesture, event.track)

    def _stand(self, decision: Decision) -> None:
        self._owner = None
        self.decision = decision


def parse_rule(document: Any, *, classes: Optional[Sequence[str]] = None) -> CommandRule:
    """Read a rule from a JSON value; docs/device.md shows one.

    classes: gestures that the model knows. Raises DeployError that names the key.
    """
    _check_keys(document, RULE_KEYS, "commands")
    gestures = document.get("gestures")
    if not isinstance(gestures, Mapping) or not gestures:
        raise DeployError("commands: gestures is missing; expected {gesture: {name: ...}, ...}")
    for name in gestures:
        if classes is not None and name not in classes:
            raise DeployError(f"commands: no gesture {name!r}, known: {', '.join(classes)}")
    rule = CommandRule(
        {name: _parse_command(value, f"gestures.{name}") for name, value in gestures.items()},
        _parse_command(document.get("safe", {"name": "stop"}), "safe"),
        _number(document, "deadline_ms", DEFAULT_DEADLINE_MS, "commands") / 1e3,
        _number(document, "rate_hz", DEFAULT_RATE_HZ, "commands"),
        _parse_arm(document["arm"], classes) if "arm" in document else None,
    )
    if rule.deadline_s <= DEFAULT_RULE.hold_interval_s:
        raise DeployError(
            f"commands: deadline_ms is {rule.deadline_s * 1e3:g}, expected more than the "
            f"{DEFAULT_RULE.hold_interval_s * 1e3:g} ms between two hold events"
        )
    if not 0 < rule.rate_hz <= 1000:
        raise DeployError(f"commands: rate_hz is {rule.rate_hz:g}, expected 0 to 1000")
    return rule


def _parse_arm(value: Any, classes: Optional[Sequence[str]]) -> Arm:
    where = "commands: arm"
    _check_keys(value, ARM_KEYS, where)
    gesture = value.get("gesture")
    if not isinstance(gesture, str) or (classes is not None and gesture not in classes):
        known = "a gesture" if classes is None else f"one of {', '.join(classes)}"
        raise DeployError(f"{where}.gesture is {gesture!r}, expected {known}")
    for_ms = _number(value, "for_ms", DEFAULT_ARMED_MS, where)
    if for_ms <= 0:
        raise DeployError(f"{where}.for_ms is {for_ms:g}, expected more than 0")
    return Arm(gesture, for_ms / 1e3)


def format_decision(decision: Decision, *, time_s: float) -> str:
    """Return what is sent, as one line of JSON without its end; time_s: Unix time."""
    document = {
        "schema": SCHEMA_VERSION,
        "time": round(time_s, 6),
        "command": decision.command.name,
        "linear": decision.command.linear,
        "angular": decision.command.angular,
        "reason": decision.reason,
        "gesture": decision.gesture,
        "track": decision.track,
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False)


def _parse_command(value: Any, where: str) -> Command:
    _check_keys(value, COMMAND_KEYS, f"commands: {where}")
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise DeployError(f"commands: {where}.name is {name!r}, expected a name")
    linear, angular = (_number(value, key, 0.0, f"commands: {where}") for key in COMMAND_KEYS[1:])
    return Command(name, linear, angular)


def _check_keys(value: Any, known: Sequence[str], where: str) -> None:
    if not isinstance(value, Mapping):
        raise DeployError(f"{where} is {value!r}, expected an object with {', '.join(known)}")
    for key in value:
        if key not in known:
            raise DeployError(f"{where}: unknown key {key!r}, known: {', '.join(known)}")


def _number(value: Mapping[str, Any], key: str, default: float, where: str) -> float:
    number = value.get(key, default)
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    # NaN and infinity are JSON to Python, and no velocity.
    if not is_number or not abs(number) < float("inf"):
        raise DeployError(f"{where}: {key} is {number!r}, expected a number")
    return float(number)
