from pathlib import Path

import cv2
import numpy as np

from stages.gesturenet.crops import take_crops
from stages.gesturenet.figures import WRONG_BGR, save_confusion, save_reliability, save_samples
from stages.gesturenet.metrics import calibration_bins
from tests.stages.gesturenet.samples import striped_crops

CROPS = striped_crops(2, size_px=160)


def is_outlined(path: Path) -> bool:
    """Whether the first tile has the outline of a wrong answer (JPEG blurs it a little)."""
    line = cv2.imread(str(path))[20:120, 2].astype(int)
    return bool(np.abs(line - WRONG_BGR).mean() < 60)


def test_wrong_answers_are_outlined(tmp_path: Path) -> None:
    right = np.eye(6)[CROPS.class_id]
    wrong = np.roll(right, 1, axis=1)
    save_samples(tmp_path / "right.jpg", CROPS, right)
    save_samples(tmp_path / "wrong.jpg", CROPS, wrong)
    assert not is_outlined(tmp_path / "right.jpg")
    assert is_outlined(tmp_path / "wrong.jpg")


def test_no_crops_still_give_a_picture(tmp_path: Path) -> None:
    none = take_crops(CROPS, np.zeros(0, int))
    save_samples(tmp_path / "samples.jpg", none, np.zeros((0, 6)))
    assert cv2.imread(str(tmp_path / "samples.jpg")) is not None


def test_confusion_is_the_same_picture_twice(tmp_path: Path) -> None:
    confusion = np.diag([3, 1, 4, 1, 5, 0])
    for name in ("one.png", "two.png"):
        save_confusion(tmp_path / name, confusion)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_reliability_is_drawn_with_crops_and_without(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).dirichlet(np.ones(6), 50)
    for name in ("one.png", "two.png"):
        save_reliability(tmp_path / name, calibration_bins(scores, np.arange(50) % 6))
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    save_reliability(tmp_path / "none.png", calibration_bins(np.zeros((0, 6)), np.zeros(0, int)))
    assert cv2.imread(str(tmp_path / "none.png")) is not None
