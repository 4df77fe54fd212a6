"""What a robot is told: a table of stories, and the rule's file."""

import json

import pytest

from deploy.core.commands import (
    Arm,
    Command,
    Commander,
    CommandRule,
    Decision,
    format_decision,
    parse_rule,
)
from deploy.core.errors import DeployError
from deploy.core.events import GestureEvent
from deploy.core.smoother import Phase

FORWARD, LEFT, STOP = Command("forward", 0.2), Command("left", 0.0, 0.5), Command("stop")
RULE = CommandRule({"thumbs_up": FORWARD, "two": LEFT, "stop": STOP}, STOP, deadline_s=1.0)
CLASSES = ("thumbs_up", "fist", "stop", "ok", "two", "random")


def event(phase, gesture, track=1):
    return GestureEvent(
        0.0, "", 0, track, gesture, None, Phase(phase), None, None, (640, 480), 0.0
    )


def command_after(story, rule):
    """The command's name once a story is told: (now_s, phase, gesture, track), or no phase where
    only time has gone by."""
    commander = Commander(rule)
    for now_s, phase, gesture, track in story:
        if phase is None:
            commander.check(now_s=now_s)
        else:
            commander.update(event(phase, gesture, track), now_s=now_s)
    return commander.decision.command.name


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ([], "stop"),
        ([(0, "begin", "thumbs_up", 1)], "forward"),
        ([(0, "begin", "fist", 1)], "stop"),
        ([(0, "begin", "thumbs_up", 1), (0.1, "begin", "fist", 2)], "forward"),
        ([(0, "begin", "thumbs_up", 1), (0.5, "end", "thumbs_up", 1)], "stop"),
        ([(0, "begin", "thumbs_up", 1), (0.5, "lost", None, 1)], "stop"),
        # Another hand's end or loss is not the owner's.
        ([(0, "begin", "thumbs_up", 1), (0.5, "lost", None, 2)], "forward"),
        # The newest hand owns the robot, and what the older one still shows does not come back.
        ([(0, "begin", "thumbs_up", 1), (0.2, "begin", "two", 2)], "left"),
        (
            [(0, "begin", "thumbs_up", 1), (0.2, "begin", "two", 2), (0.4, "end", "two", 2)],
            "stop",
        ),
        (
            [
                (0, "begin", "thumbs_up", 1),
                (0.2, "begin", "two", 2),
                (0.4, "end", "two", 2),
                (0.5, "hold", "thumbs_up", 1),
            ],
            "stop",
        ),
        # A hand that shows the safe gesture stops the robot, whoever begins something else.
        ([(0, "begin", "stop", 1), (0.2, "begin", "two", 2)], "stop"),
        (
            [(0, "begin", "stop", 1), (0.2, "end", "stop", 1), (0.3, "begin", "two", 2)],
            "left",
        ),
        # The dead man's switch: silence, a hold in time, a hold too late.
        ([(0, "begin", "thumbs_up", 1), (1.1, None, None, None)], "stop"),
        (
            [(0, "begin", "thumbs_up", 1), (0.9, "hold", "thumbs_up", 1), (1.8, None, 0, 0)],
            "forward",
        ),
        ([(0, "begin", "thumbs_up", 1), (1.1, None, 0, 0), (1.2, "hold", "thumbs_up", 1)], "stop"),
        ([(0, "begin", "thumbs_up", 1), (0.9, "hold", "two", 2), (1.1, None, 0, 0)], "stop"),
    ],
)
def test_stories(story, expected):
    assert command_after(story, RULE) == expected


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        # A hand that rests like a gesture, and one that shows the arming gesture first.
        ([(0, "begin", "thumbs_up", 1)], "stop"),
        ([(0, "begin", "ok", 1), (1, "end", "ok", 1), (2, "begin", "thumbs_up", 1)], "forward"),
        # The next gesture may follow without a gap, and the arming one may be held for long.
        ([(0, "begin", "ok", 1), (2.5, "hold", "ok", 1), (5, "begin", "two", 1)], "left"),
        # Too late; each gesture of an armed hand keeps it armed.
        ([(0, "begin", "ok", 1), (1, "end", "ok", 1), (4.5, "begin", "thumbs_up", 1)], "stop"),
        (
            [
                (0, "begin", "ok", 1),
                (2, "begin", "thumbs_up", 1),
                (4, "end", "thumbs_up", 1),
                (6, "begin", "two", 1),
            ],
            "left",
        ),
        # Another hand is not armed by it, nor is this one once it was lost.
        ([(0, "begin", "ok", 1), (1, "begin", "two", 2)], "stop"),
        ([(0, "begin", "ok", 1), (1, "lost", None, 1), (2, "begin", "two", 1)], "stop"),
        # The safe command needs no arming, and a gesture that is not obeyed takes nothing over.
        ([(0, "begin", "ok", 1), (1, "begin", "two", 1), (2, "begin", "stop", 2)], "stop"),
        ([(0, "begin", "ok", 1), (1, "begin", "two", 1), (1.5, "begin", "two", 2)], "left"),
    ],
)
def test_hands_count_once_they_have_shown_the_arming_gesture(story, expected):
    rule = RULE._replace(deadline_s=60.0, arm=Arm("ok", for_s=3.0))
    assert command_after(story, rule) == expected


def test_reasons_name_the_hand():
    commander = Commander(RULE)
    assert commander.decision == Decision(STOP, "start")
    began = commander.update(event("begin", "thumbs_up", 7), now_s=0.0)
    assert began == Decision(FORWARD, "gesture", "thumbs_up", 7)
    assert commander.check(now_s=2.0) == Decision(STOP, "deadline", None, 7)


def test_hand_that_stopped_and_went_silent_stops_for_good_no_more():
    commander = Commander(RULE)
    commander.update(event("begin", "stop", 1), now_s=0.0)
    commander.check(now_s=2.0)
    assert commander.update(event("begin", "two", 2), now_s=2.1).command == LEFT


def test_rule_from_json():
    document = {
        "gestures": {"thumbs_up": {"name": "forward", "linear": 0.2}, "stop": {"name": "stop"}},
        "deadline_ms": 800,
        "rate_hz": 20,
    }
    rule = parse_rule(json.loads(json.dumps(document)), classes=CLASSES)
    assert rule == CommandRule({"thumbs_up": FORWARD, "stop": STOP}, STOP, 0.8, 20.0)
    document["arm"] = {"gesture": "stop"}
    assert parse_rule(document, classes=CLASSES) == rule._replace(arm=Arm("stop", 5.0))
    document["arm"]["for_ms"] = 1500
    assert parse_rule(document) == rule._replace(arm=Arm("stop", 1.5))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "expected an object"),
        ({}, "gestures is missing"),
        ({"gestures": {}}, "gestures is missing"),
        ({"gestures": {"wave": {"name": "x"}}}, "no gesture 'wave', known: thumbs_up"),
        ({"gestures": {"ok": {"nam": "x"}}}, "unknown key 'nam', known: name"),
        ({"gestures": {"ok": {"name": ""}}}, "expected a name"),
        ({"gestures": {"ok": {"name": "x", "linear": "fast"}}}, "linear is 'fast'"),
        ({"gestures": {"ok": {"name": "x", "linear": True}}}, "linear is True"),
        ({"gestures": {"ok": {"name": "x", "angular": float("nan")}}}, "angular is nan"),
        ({"gestures": {"ok": {"name": "x"}}, "deadline_ms": 500}, "more than the 500 ms"),
        ({"gestures": {"ok": {"name": "x"}}, "rate_hz": 0}, "rate_hz is 0"),
        ({"gestures": {"ok": {"name": "x"}}, "speed": 1}, "unknown key 'speed'"),
        ({"gestures": {"ok": {"name": "x"}}, "arm": "stop"}, "arm is 'stop', expected an object"),
        ({"gestures": {"ok": {"name": "x"}}, "arm": {}}, "arm.gesture is None, expected one of"),
        (
            {"gestures": {"ok": {"name": "x"}}, "arm": {"gesture": "wave"}},
            "arm.gesture is 'wave', expected one of thumbs_up",
        ),
        (
            {"gestures": {"ok": {"name": "x"}}, "arm": {"gesture": "ok", "for_ms": 0}},
            "arm.for_ms is 0, expected more than 0",
        ),
    ],
)
def test_wrong_rule_is_one_line_that_names_the_key(document, message):
    with pytest.raises(DeployError, match=message) as caught:
        parse_rule(document, classes=CLASSES)
    assert "\n" not in str(caught.value)


def test_message_has_every_key():
    text = format_decision(Decision(LEFT, "gesture", "two", 3), time_s=12.5)
    assert json.loads(text) == {
        "schema": 1,
        "time": 12.5,
        "command": "left",
        "linear": 0.0,
        "angular": 0.5,
        "reason": "gesture",
        "gesture": "two",
        "track": 3,
    }
