"""The hand in the middle of a crop is found in whichever view the tracker finds it."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from stages.gesturenet import find_joints
from stages.gesturenet.errors import GestureError
from stages.gesturenet.find_joints import Found, find_hand, find_rows, read_answer
from stages.gesturenet.joint_table import read_joints

SPOTS = ((30, 40), (70, 40), (50, 64))  # red, green and blue, in a crop of 100 pixels


def spotted() -> np.ndarray:
    image = np.zeros((100, 100, 3), np.uint8)
    for channel, (x, y) in enumerate(SPOTS):
        cv2.circle(image, (x, y), 3, [255 if k == channel else 0 for k in range(3)], -1)
    return image


def see_spots(image: np.ndarray) -> list[Found]:
    """A tracker whose joints are the brightest places of the colours, in turn."""
    places = []
    for channel in range(3):
        y, x = np.nonzero(image[..., channel] > 200)
        places.append(((x.mean() + 0.5) / image.shape[1], (y.mean() + 0.5) / image.shape[0]))
    return [Found(np.array(places * 7), "left", 0.8)]


def test_joints_are_in_fractions_of_the_crop_itself() -> None:
    hand = find_hand(spotted(), see_spots)
    assert hand is not None
    assert hand.joints[:3] == pytest.approx((np.array(SPOTS) + 0.5) / 100, abs=0.01)
    assert (hand.handedness, hand.score) == ("left", 0.8)


def test_later_views_are_tried_and_the_hand_nearest_to_the_middle_is_taken() -> None:
    sides = []

    def track(image: np.ndarray) -> list[Found]:
        sides.append(len(image))
        at = [] if len(sides) == 1 else [0.1, 0.45, 0.9]
        return [Found(np.full((21, 2), place), str(place), 1.0) for place in at]

    hand = find_hand(spotted(), track)
    assert sides == [384, 384]
    assert hand is not None
    assert hand.handedness == "0.45"


@pytest.mark.parametrize("places", [[], [0.0]], ids=["nothing", "in a corner only"])
def test_no_hand_near_the_middle_is_none(places: list[float]) -> None:
    def track(_image: np.ndarray) -> list[Found]:
        return [Found(np.full((21, 2), place), "left", 1.0) for place in places]

    assert find_hand(spotted(), track) is None


def test_answers_of_the_tracker_are_read() -> None:
    mark = SimpleNamespace(x=0.25, y=0.75)
    hand = SimpleNamespace(landmark=[mark] * 21)
    side = SimpleNamespace(classification=[SimpleNamespace(label="Right", score=0.9)])
    answer = SimpleNamespace(multi_hand_landmarks=[hand], multi_handedness=[side])
    (found,) = read_answer(answer)
    assert found.joints.tolist() == [[0.25, 0.75]] * 21
    assert (found.handedness, found.score) == ("right", 0.9)
    nothing = SimpleNamespace(multi_hand_landmarks=None, multi_handedness=None)
    assert read_answer(nothing) == []


def test_the_program_writes_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "classes" / "two").mkdir(parents=True)
    for name in ("anna_1.png", "anna_2.png"):
        image = spotted() if name == "anna_1.png" else np.zeros((100, 100, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "classes" / "two" / name), image)

    def track(image: np.ndarray) -> list[Found]:
        return see_spots(image) if image.any() else []

    monkeypatch.setattr(find_joints, "open_tracker", lambda: track)
    out = tmp_path / "joints.csv"
    assert find_joints.main(["--crops", str(tmp_path / "classes"), "--out", str(out)]) == 0
    assert list(read_joints(out)) == ["two/anna_1.png"]


def test_failures_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "joints.csv"
    assert find_joints.main(["--crops", str(tmp_path / "none"), "--out", str(out)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not out.exists()
    broken = tmp_path / "two" / "a_1.png"
    broken.parent.mkdir()
    broken.write_text("no picture")
    with pytest.raises(GestureError, match="cannot be decoded"):
        find_rows([broken], see_spots)
