"""Cuts the hands of videos and folders out of their frames, exactly as the runtime does.

Detection, region rule and classification are deploy.pipeline's own functions, and a crop is the
picture that the runtime gives its classifier. Nothing is written twice: a frame that is in the
journal is not detected again, and a picture that is there stays.
"""

import argparse
import contextlib
import logging
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from deploy.capture import LIVE, SourceKind, camera_index, source_kind
from deploy.core.model_json import ModelInfo, read_model_json
from deploy.core.roi import RoiRule, crop_regions, expand_boxes
from deploy.engine import Engine
from deploy.latency import Latency
from deploy.models import find_classifier, find_detector
from deploy.options import open_engines
from deploy.pipeline import classify_hands, detect_hands
from deploy.source import list_images, open_source, read_ahead
from stages._files import atomic
from stages.gesturenet.config import GESTURES, INPUT_WH
from stages.gesturenet.errors import GestureError
from stages.gesturenet.labelling.journal import PICTURES, Crop, Journal, Settings
from stages.gesturenet.labelling.naming import (
    check_classes,
    crop_name,
    image_keys,
    source_key,
    video_key,
)

LOGGER = logging.getLogger(__name__)
JPEG_QUALITY = 95
# Neighbouring frames of a video say little new: three a second at 30 frames/s.
VIDEO_STEP, FOLDER_STEP = 10, 1
RUNNABLE_ROLES = ("fp32", "qdq")
COORDINATE_DIGITS, CONFIDENCE_DIGITS = 2, 4


class Models(NamedTuple):
    """Open engines and what follows from the gesture model; its engine is None if none runs."""

    detector: Engine
    classifier: Engine | None
    rule: RoiRule
    size_wh: tuple[int, int]
    classes: tuple[str, ...]

    def settings(self) -> Settings:
        """Return what all crops of a folder must share."""
        model = self.detector.model
        values = {
            "detector": model.sha256.get(model.files.get("fp32", ""), model.name)[:12],
            "confidence": _threshold(model),
            "region": dict(self.rule._asdict()),
            "size_wh": list(self.size_wh),
        }
        return Settings(self.classes, values)


class Cut(NamedTuple):
    """Pictures of one frame (N, H, W, 3) uint8 BGR, and what is known of each."""

    images: np.ndarray
    crops: tuple[Crop, ...]


@contextlib.contextmanager
def open_models(args: argparse.Namespace) -> Iterator[Models]:
    """Open the models that the options of deploy.options name; args.confidence may be None.

    Raises: DeployError for a folder that cannot be read; GestureError for one of another kind.
    """
    _check_kind(find_detector(args.detector), "detector", "--detector models/export")
    gesture = None if args.no_gesture else find_classifier(args.gesture)
    info = None if gesture is None else _check_kind(gesture, "classifier", "--gesture DIR")
    is_runnable = info is not None and any(role in info.files for role in RUNNABLE_ROLES)
    with open_engines(
        argparse.Namespace(**{**vars(args), "no_gesture": not is_runnable})
    ) as engines:
        detector = engines["detector"]
        if args.confidence is not None:
            detector.model = _with_threshold(detector.model, args.confidence)
        yield _models(detector, engines.get("gesture"), info)


def check_sources(uris: Sequence[str]) -> None:
    """Raise DeployError or GestureError for a source that is not there or is live."""
    for uri in uris:
        if source_kind(uri) in LIVE:
            camera = camera_index(uri)
            device = uri if camera is None else f"/dev/video{camera}"
            raise GestureError(
                f"source {uri} is live, expected a video file or a folder of images; record it "
                f"first: ffmpeg -i {device} -t 60 clip.mp4"
            )


def cut_sources(
    uris: Sequence[str],
    models: Models,
    journal: Journal,
    out: Path,
    *,
    every: int | None,
    limit: int | None,
) -> int:
    """Cut all hands of the sources, go on where the journal ends; return how many frames were new.

    every: take each N-th frame; limit: end with the frame that brings the crops of all runs to N.
    Raises: DeployError for a source that cannot be read.
    """
    num_frames = 0
    for uri in uris:
        with contextlib.closing(_new_frames(uri, journal, every=every)) as frames:
            for source, frame, image in frames:
                if limit is not None and len(journal.content.crops) >= limit:
                    return num_frames
                cut = cut_frame(image, models, source=source, frame=frame)
                for crop, picture in zip(cut.crops, cut.images, strict=True):
                    _write_picture(out / PICTURES / crop.name, picture)
                journal.add_frame(source, frame, cut.crops)
                num_frames += 1
    return num_frames


def cut_frame(image: np.ndarray, models: Models, *, source: str, frame: str) -> Cut:
    """Find and cut the hands of a frame (H, W, 3), the most confident first; there may be none."""
    latency = Latency()
    found = detect_hands(models.detector, image, latency)
    probabilities = None
    if models.classifier is not None:
        regions, probabilities = classify_hands(models.classifier, image, found.xyxy, latency)
    else:
        regions = expand_boxes(found.xyxy, models.rule, image_wh=(image.shape[1], image.shape[0]))
    crops = []
    for index, (box, region) in enumerate(zip(found.xyxy, regions, strict=True)):
        suggestion: tuple[str | None, float | None] = (None, None)
        if probabilities is not None:
            suggestion = _suggest(probabilities[index], models.classes)
        name = crop_name(source, frame, index)
        sure = round(float(found.confidence[index]), CONFIDENCE_DIGITS)
        crops.append(Crop(name, _rounded(box), _rounded(region), sure, *suggestion))
    return Cut(crop_regions(image, regions, size_wh=models.size_wh), tuple(crops))


def _new_frames(
    uri: str, journal: Journal, *, every: int | None
) -> Generator[tuple[str, str, np.ndarray], None, None]:
    """Yield (source, frame, image) of the frames that the journal does not have."""
    path = str(Path(uri).resolve())
    if path not in journal.content.sources:
        taken = set(journal.content.sources.values())
        journal.add_source(path, source_key(uri, taken=taken))
    name = journal.content.sources[path]
    keys, total, step = None, _count_frames(uri), VIDEO_STEP
    if source_kind(uri) is SourceKind.FOLDER:
        keys, step = image_keys(image.stem for image in list_images(Path(uri))), FOLDER_STEP
        total = len(keys)
    with (
        open_source(uri) as source,
        read_ahead(source) as frames,
        tqdm(total=total, desc=name, unit="frame", disable=None) as bar,
    ):
        for frame in frames:
            key = video_key(frame.number) if keys is None else keys[frame.number]
            if frame.number % (every or step) == 0 and (name, key) not in journal.content.frames:
                yield name, key, frame.image
            bar.update()


def _count_frames(uri: str) -> int | None:
    """What a video says of its length, for the progress bar alone."""
    capture = cv2.VideoCapture(uri)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return count if count > 0 else None


def _suggest(row: np.ndarray, classes: Sequence[str]) -> tuple[str, float]:
    best = int(row.argmax())
    return classes[best], round(float(row[best]), CONFIDENCE_DIGITS)


def _rounded(xyxy: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(edge), COORDINATE_DIGITS) for edge in xyxy)


def _write_picture(path: Path, image: np.ndarray) -> None:
    if path.exists():
        return
    is_encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not is_encoded:
        raise GestureError(f"{path} cannot be encoded by OpenCV {cv2.__version__}")
    with atomic(path, is_file=True) as aside:
        aside.write_bytes(data.tobytes())


def _models(detector: Engine, classifier: Engine | None, info: ModelInfo | None) -> Models:
    if info is None:
        LOGGER.warning(
            "no gesture model: crops get no suggestion and the default region, %s", RoiRule()
        )
        return Models(detector, None, RoiRule(), INPUT_WH, GESTURES)
    if classifier is None:
        LOGGER.warning(
            "%s has no ONNX file: its region is used, but crops get no suggestion", info.name
        )
    classes = check_classes(info.classes, origin=f"model {info.name}")
    return Models(detector, classifier, info.roi or RoiRule(), info.input_wh, classes)


def _check_kind(folder: Path, kind: str, remedy: str) -> ModelInfo:
    info = read_model_json(folder)
    if info.kind != kind:
        raise GestureError(f"{folder} holds a {info.kind}, expected a {kind}; give {remedy}")
    if kind == "detector":
        _names = info.map_names  # raises DeployError where the tensors are no detector's
    return info


def _threshold(model: ModelInfo) -> float:
    return 0.0 if model.postprocess is None else float(model.postprocess.confidence_threshold)


def _with_threshold(model: ModelInfo, confidence: float) -> ModelInfo:
    if model.postprocess is None:
        return model
    postprocess = model.postprocess._replace(confidence_threshold=confidence)
    return model._replace(postprocess=postprocess)
