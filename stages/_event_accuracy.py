"""Are the runtime's gesture events right: against labelled videos, pure values in, figures out.

What a hand shows is a run of frames with one label whose boxes follow each other. A gesture that
is shown for MIN_SHOWN_S must bring exactly one `begin`, of that gesture, on that hand, while it is
shown or within LATE_S after. Everything else that begins is a false event.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from deploy.core.boxes import box_iou
from deploy.core.events import IDLE_CLASSES

# A shorter one is over before the smoother may believe it.
MIN_SHOWN_S = 0.5
# The smoother's average is still on its way when a gesture has ended.
LATE_S = 0.2
SAME_HAND_IOU = 0.3


class LabelledHand(NamedTuple):
    """A hand of one frame: gesture, None where it is unclear, and box xyxy (4,) in pixels."""

    gesture: str | None
    xyxy: np.ndarray


class Shown(NamedTuple):
    """One gesture of one hand: first frame, and a box xyxy (4,) for each frame of it."""

    gesture: str
    first: int
    boxes: list[np.ndarray]

    @property
    def last(self) -> int:
        """Its last frame."""
        return self.first + len(self.boxes) - 1


class Begin(NamedTuple):
    """A `begin` event: frame, gesture and tight box xyxy (4,) in pixels."""

    frame: int
    gesture: str
    xyxy: np.ndarray


def find_shown(frames: Sequence[Sequence[LabelledHand]]) -> list[Shown]:
    """Join the labelled hands of a video's frames to what is shown, by their first frame."""
    done: list[Shown] = []
    open_now: list[Shown] = []
    for number, hands in enumerate(frames):
        going_on, left = [], open_now
        for hand in hands:
            if hand.gesture is None:
                continue
            before = _same_hand(left, hand.gesture, hand.xyxy)
            if before is None:
                going_on.append(Shown(hand.gesture, number, [hand.xyxy]))
            else:
                left = [each for each in left if each is not before]
                before.boxes.append(hand.xyxy)
                going_on.append(before)
        done += left
        open_now = going_on
    return sorted([*done, *open_now], key=lambda shown: shown.first)


class Tally(NamedTuple):
    """Counts over videos: gestures that had to begin, events that began, of which right ones with
    their delays in seconds, hands without a gesture and how many of them began one."""

    num_shown: int
    num_begins: int
    delays_s: list[float]
    num_idle: int
    num_alarmed: int


def tally_video(shown: Sequence[Shown], begins: Sequence[Begin], *, fps: float) -> Tally:
    """Match the begin events of a video with what is shown in it, each with one at most."""
    delays: list[float] = []
    matched: set[int] = set()
    wrong: list[Begin] = []
    for begin in begins:
        index = _find_match(shown, begin, matched, late=round(LATE_S * fps))
        if index is None:
            wrong.append(begin)
            continue
        matched.add(index)
        delays.append((begin.frame - shown[index].first) / fps)
    is_long = [len(each.boxes) >= MIN_SHOWN_S * fps for each in shown]
    idle = [
        each
        for each, long in zip(shown, is_long, strict=True)
        if long and each.gesture in IDLE_CLASSES
    ]
    must_begin = [
        index
        for index, (each, long) in enumerate(zip(shown, is_long, strict=True))
        if each.gesture not in IDLE_CLASSES and (long or index in matched)
    ]
    alarmed = [each for each in idle if any(_is_during(each, begin) for begin in wrong)]
    return Tally(len(must_begin), len(begins), delays, len(idle), len(alarmed))


def summarize_tallies(tallies: Sequence[Tally]) -> dict[str, Any]:
    """Return precision, recall, median and largest delay, and the share of idle hands alarmed.

    Rates are None where there is nothing to divide by.
    """
    delays = [delay for tally in tallies for delay in tally.delays_s]
    sums = {
        name: sum(getattr(tally, name) for tally in tallies)
        for name in ("num_shown", "num_begins", "num_idle", "num_alarmed")
    }
    return {
        "precision": _share(len(delays), sums["num_begins"]),
        "recall": _share(len(delays), sums["num_shown"]),
        "delay_p50_s": float(np.median(delays)) if delays else None,
        "delay_max_s": max(delays, default=None),
        "false_alarm_frac": _share(sums["num_alarmed"], sums["num_idle"]),
        "num_videos": len(tallies),
        **sums,
    }


def read_begins(events: Sequence[Mapping[str, Any]]) -> list[Begin]:
    """Take the begin events of a runtime's event documents (deploy.core.events)."""
    return [
        Begin(event["frame"], event["gesture"], np.array(event["box"], np.float64))
        for event in events
        if event["phase"] == "begin"
    ]


def _same_hand(open_now: Sequence[Shown], gesture: str, xyxy: np.ndarray) -> Shown | None:
    same = [each for each in open_now if each.gesture == gesture]
    if not same:
        return None
    ious = box_iou(xyxy[None], np.stack([each.boxes[-1] for each in same]))[0]
    return same[int(ious.argmax())] if ious.max() >= SAME_HAND_IOU else None


def _find_match(shown: Sequence[Shown], begin: Begin, taken: set[int], *, late: int) -> int | None:
    for index, each in enumerate(shown):
        if index in taken or each.gesture != begin.gesture:
            continue
        if each.first <= begin.frame <= each.last + late and _is_near(each, begin):
            return index
    return None


def _is_during(shown: Shown, begin: Begin) -> bool:
    return shown.first <= begin.frame <= shown.last and _is_near(shown, begin)


def _is_near(shown: Shown, begin: Begin) -> bool:
    box = shown.boxes[min(begin.frame, shown.last) - shown.first]
    return bool(box_iou(box[None], begin.xyxy[None])[0, 0] >= SAME_HAND_IOU)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
