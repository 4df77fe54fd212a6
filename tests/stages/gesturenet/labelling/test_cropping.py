"""What the tool cuts is what the runtime shows its classifier."""

import argparse
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from deploy.core.errors import DeployError
from deploy.core.model_json import write_model_json
from deploy.core.preprocess import images_to_batch
from deploy.core.roi import RoiRule
from deploy.pipeline import Pipeline
from deploy.source import Frame
from stages.gesturenet.errors import GestureError
from stages.gesturenet.labelling.cropping import (
    Models,
    check_sources,
    cut_frame,
    cut_sources,
    open_models,
)
from stages.gesturenet.labelling.journal import PICTURES, open_journal
from tests.deploy import tiny_models
from tests.deploy.clips import write_clip, write_folder

TWO_HANDS = [("stop", 64, 64), ("ok", 500, 250)]  # the second reaches over the border
SCRIPT: list[list] = [[("fist", 64, 64)]] * 4 + [[]] * 2 + [TWO_HANDS] * 2
RULES = [
    RoiRule(),
    RoiRule(ratio=2.2, square=False, border="clip"),
    RoiRule(mode="pixels", margin_x=90, margin_y=40, border="shift"),
]


class Recorder(tiny_models.NumpyEngine):
    """A classifier that keeps the batches it was given."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(tiny_models.classifier_info(**changes), tiny_models.classify)
        self.batches: list[np.ndarray] = []

    def infer(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        self.batches.append(batch)
        return super().infer(batch)


def numpy_models(rule: RoiRule = RULES[0], *, is_classified: bool = True) -> Models:
    detector, classifier = tiny_models.numpy_detector(), Recorder(roi=rule)
    return Models(
        detector,
        classifier if is_classified else None,  # type: ignore[arg-type]
        rule,
        classifier.model.input_wh,
        tiny_models.CLASSES,
    )


def options(**changes: Any) -> argparse.Namespace:
    given = {"detector": None, "gesture": None, "no_gesture": False, "confidence": None}
    return argparse.Namespace(**{**given, "runtime": "auto", "precision": "auto", **changes})


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("is_classified", [True, False])
def test_crops_are_the_runtimes_to_the_pixel(rule: RoiRule, is_classified: bool) -> None:
    image = tiny_models.draw_frame(TWO_HANDS)
    classifier = Recorder(roi=rule)
    pipeline = Pipeline(tiny_models.numpy_detector(), classifier)
    hands = pipeline.process(Frame(image, 0, 0.0, 0.0)).hands
    models = numpy_models(rule, is_classified=is_classified)
    cut = cut_frame(image, models, source="clip", frame="000000")
    preprocess = classifier.model.preprocess._asdict()
    fed = images_to_batch(list(cut.images), input_wh=models.size_wh, **preprocess)
    assert len(cut.crops) == 2
    assert np.array_equal(fed, classifier.batches[0])
    for crop, hand in zip(cut.crops, hands, strict=True):
        assert crop.roi == pytest.approx(hand.roi.tolist(), abs=0.005)
        assert crop.box == pytest.approx(hand.xyxy.tolist(), abs=0.005)


def test_each_crop_has_its_suggestion_where_a_classifier_runs() -> None:
    image = tiny_models.draw_frame([("stop", 64, 64), ("ok", 400, 200)])
    crops = cut_frame(image, numpy_models(), source="clip", frame="000007").crops
    assert sorted((crop.suggestion or "") for crop in crops) == ["ok", "stop"]
    assert all(0.5 < (crop.suggestion_confidence or 0) <= 1 for crop in crops)
    assert [crop.name for crop in crops] == ["clip_000007-0.jpg", "clip_000007-1.jpg"]
    plain = cut_frame(image, numpy_models(is_classified=False), source="clip", frame="0").crops
    assert [crop.suggestion for crop in plain] == [None, None]


def test_no_hand_gives_no_crop() -> None:
    cut = cut_frame(tiny_models.draw_frame([]), numpy_models(), source="clip", frame="0")
    assert cut.crops == ()
    assert len(cut.images) == 0


def cut(out: Path, *uris: str, every: int | None = 1, limit: int | None = None) -> list[int]:
    """Cut sources; return the number of new frames, of frames and of crops."""
    models = numpy_models()
    with open_journal(out, models.settings()) as journal:
        new = cut_sources(uris, models, journal, out, every=every, limit=limit)
        return [new, len(journal.content.frames), len(journal.content.crops)]


def pictures(out: Path) -> list[str]:
    return sorted(path.name for path in (out / PICTURES).iterdir())


def test_pictures_are_the_crops_but_for_jpeg(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "hands", [TWO_HANDS])
    cut(tmp_path / "out", folder)
    expected = cut_frame(
        tiny_models.draw_frame(TWO_HANDS), numpy_models(), source="hands", frame="000"
    )
    for crop, image in zip(expected.crops, expected.images, strict=True):
        written = cv2.imread(str(tmp_path / "out" / PICTURES / crop.name))
        assert np.abs(written.astype(int) - image).mean() < 2


def test_a_second_run_does_nothing_and_more_frames_add_to_the_first(tmp_path: Path) -> None:
    clip, out = write_clip(tmp_path / "clip.mp4", SCRIPT), tmp_path / "out"
    assert cut(out, clip, every=4) == [2, 2, 1]
    first = out / PICTURES / "clip_000000-0.jpg"
    stamp = first.stat().st_mtime_ns
    assert cut(out, clip, every=4) == [0, 2, 1]
    assert cut(out, clip, every=1) == [6, 8, 8]
    assert first.stat().st_mtime_ns == stamp
    assert pictures(out)[-2:] == ["clip_000007-0.jpg", "clip_000007-1.jpg"]


def test_a_run_that_was_interrupted_ends_like_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", SCRIPT)
    cut(tmp_path / "whole", clip)
    detect, frames = tiny_models.detect, iter(range(100))

    def interrupted(batch: np.ndarray) -> Any:
        if next(frames) == 3:
            raise KeyboardInterrupt
        return detect(batch)

    with monkeypatch.context() as patch:
        patch.setattr(tiny_models, "detect", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cut(tmp_path / "out", clip)
    assert len(pictures(tmp_path / "out")) == 3
    assert cut(tmp_path / "out", clip)[0] == 5
    for name in ("crops.jsonl", *(f"{PICTURES}/{name}" for name in pictures(tmp_path / "whole"))):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_limit_counts_the_crops_of_all_runs(tmp_path: Path) -> None:
    clip, out = write_clip(tmp_path / "clip.mp4", SCRIPT), tmp_path / "out"
    assert cut(out, clip, limit=2) == [2, 2, 2]
    assert cut(out, clip, limit=2) == [0, 2, 2]
    assert cut(out, clip, limit=3)[2] == 3


def test_sources_of_one_name_and_added_images_keep_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = write_folder(tmp_path / "a" / "hands", [SCRIPT[0]])
    second = write_folder(tmp_path / "b" / "hands", [SCRIPT[0]])
    out = tmp_path / "out"
    cut(out, first, second)
    assert pictures(out) == ["hands-2_000-0.jpg", "hands_000-0.jpg"]
    assert cv2.imwrite(f"{first}/0.png", tiny_models.draw_frame(TWO_HANDS))  # sorts before 000
    assert cut(out, second, first) == [1, 3, 4]
    expected = ["hands-2_000-0.jpg", "hands_0-0.jpg", "hands_0-1.jpg", "hands_000-0.jpg"]
    assert pictures(out) == expected


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        ("missing.mp4", DeployError, "is not there, expected a video file"),
        ("0", GestureError, "is live, .*: ffmpeg -i /dev/video0"),
        ("rtsp://host/path", GestureError, "is live, .*: ffmpeg -i rtsp://host/path"),
        ("http://host/path", DeployError, "is not supported"),
    ],
)
def test_a_source_that_cannot_be_cut_is_named(
    uri: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_sources([uri])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("models")
    return {
        "detector": str(tiny_models.write_detector(root / "detector")),
        "gesture": str(tiny_models.write_classifier(root / "gesture")),
    }


def test_rule_size_and_classes_come_from_the_gesture_model(folders: dict[str, str]) -> None:
    with open_models(options(**folders)) as models:
        assert models.classes == tiny_models.CLASSES
        assert models.size_wh == (160, 160)
        assert models.classifier is not None
    with open_models(options(**folders, confidence=2.5)) as models:
        assert models.settings().values["confidence"] == 2.5


def test_without_a_gesture_model_there_are_defaults_and_a_warning(
    folders: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with open_models(options(**{**folders, "no_gesture": True})) as models:
        assert (models.classifier, models.rule) == (None, RoiRule())
    assert "no gesture model" in caplog.text


def test_a_gesture_model_that_cannot_run_here_gives_its_rule(
    folders: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rule = RoiRule(ratio=1.7)
    info = tiny_models.classifier_info(files={"calibration": "c.bin"}, roi=rule)
    (tmp_path / "c.bin").write_bytes(b"")
    write_model_json(tmp_path, info)
    caplog.set_level(logging.INFO)
    with open_models(options(**{**folders, "gesture": str(tmp_path)})) as models:
        assert (models.classifier, models.rule) == (None, rule)
    assert "crops get no suggestion" in caplog.text


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"detector": "gesture"}, GestureError, "holds a classifier, expected a detector; give"),
        ({"gesture": "detector"}, GestureError, "holds a detector, expected a classifier; give"),
        ({"detector": None}, DeployError, r"model\.json: no such file"),
    ],
)
def test_a_model_of_another_kind_is_named(
    folders: dict[str, str],
    tmp_path: Path,
    changes: dict[str, str | None],
    error: type[Exception],
    message: str,
) -> None:
    given = {name: folders[of] if of else str(tmp_path) for name, of in changes.items()}
    with pytest.raises(error, match=message), open_models(options(**{**folders, **given})):
        pass
