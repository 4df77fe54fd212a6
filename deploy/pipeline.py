"""One frame at a time: detect, track, cut out, classify, smooth, tell.

The tight boxes are tracked and reported; the classifier sees a widened copy of each. All hands of
a frame are classified in one batch. Nothing here reads a source, writes a sink or draws.
"""

import math
import time
from typing import Any, Callable, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from deploy.core.boxes import Detections
from deploy.core.cluster import postprocess_maps
from deploy.core.errors import DeployError
from deploy.core.events import GestureEvent, change_event, idle_indices
from deploy.core.preprocess import resize_image
from deploy.core.roi import RoiRule, expand_boxes
from deploy.core.smoother import Change, Smoother
from deploy.core.tracker import Tracker
from deploy.feed import feed
from deploy.health import Health
from deploy.latency import Latency
from deploy.source import Frame, Lend


class Hand(NamedTuple):
    """A hand in one frame: xyxy and roi (4,) in pixels; gesture is the smoothed one, if any."""

    track: int
    xyxy: np.ndarray
    roi: Optional[np.ndarray]
    confidence: float
    gesture: Optional[str]
    gesture_confidence: Optional[float]


class Result(NamedTuple):
    """What one frame gave: its hands, the most confident first, and its events in order."""

    hands: List[Hand]
    events: List[GestureEvent]


Wait = Callable[[], Mapping[str, np.ndarray]]
WaitRows = Callable[[], np.ndarray]
Upcoming = Callable[[], Optional[Frame]]


class _Ahead(NamedTuple):
    """A frame that the detector works on before `process` gets it."""

    frame: Frame
    wait: Wait


class _Last(NamedTuple):
    """The latest frame, as its events need it: without its picture."""

    number: int
    time_s: float
    arrived_s: float
    image_wh: Tuple[int, int]


class Pipeline:
    """The runtime of one source: open engines (deploy.engine), tracker and smoother.

    Without a classifier there are hands and no events.
    """

    def __init__(
        self,
        detector: Any,
        classifier: Optional[Any] = None,
        *,
        source: str = "",
        latency: Optional[Latency] = None,
        health: Optional[Health] = None,
        classify_every: int = 1,
    ) -> None:
        """source: the URI that events name; health: takes the faults.

        classify_every: each hand is classified in one of so many frames, in turn.

        Raises DeployError for a model of the wrong kind.
        """
        _check_kind(detector.model, "detector")
        self._takes_frames = bool(getattr(detector, "takes_frames", False))
        self._ahead: Optional[_Ahead] = None
        # For read_ahead: memory to decode frames into; None where any will do.
        self.lend_image: Optional[Lend] = detector.lend_image if self._takes_frames else None
        self.latency = latency or Latency()
        self._health = health or Health()
        self._classify_every = classify_every
        self._detector = detector
        self._classifier = classifier
        self._source = source
        self._tracker = Tracker()
        self._smoother = Smoother()
        self._classes: Sequence[str] = ()
        self._last: Optional[_Last] = None
        if classifier is not None:
            _check_kind(classifier.model, "classifier")
            self._classes = classifier.model.classes
            self._smoother = Smoother(idle_indices(self._classes))

    def process(
        self, frame: Frame, upcoming: Optional[Upcoming] = None, *, is_live: bool = True
    ) -> Result:
        """Take in the next frame; return its hands and what began, holds, ended or was lost.

        upcoming: returns the frame of the next call if it is there already, else None, at once: a
        GPU then works on it while this one's hands are worked out. It is asked when this frame's
        maps are there, and unless is_live before that too: an early look would take a camera's
        frame that a newer one might replace.
        """
        # Without the picture, whose memory would else be held between frames and past the end.
        last = _Last(frame.number, frame.time_s, frame.arrived_s, _image_wh(frame.image))
        self._last = last
        self.latency.add("decode", frame.decode_ms)
        wait = self._take_started(frame)
        if not is_live:
            self._start_next(upcoming)
        with self.latency.measure("detect"):
            outputs = wait()
        self._start_next(upcoming)
        detections = find_hands(
            self._detector.model,
            outputs,
            _image_wh(frame.image),
            self.latency,
            check=self._is_finite,
        )
        regions, classified = self._start_all(frame, detections.xyxy)
        with self.latency.measure("track"):
            update = self._tracker.update(detections, time_s=frame.time_s)
        tracks = update.track_id.tolist()
        changes = self._lose(update.lost)
        if regions is not None:
            changes += self._classify(frame, tracks, regions, classified)
        hands = self._hands(detections, tracks, regions)
        events = [self._event(last, change, hands) for change in changes]
        self.latency.add("total", _since_ms(frame.arrived_s))
        return Result(hands, events)

    def prepare(self, frame: Frame) -> Frame:
        """Return a frame with its image on the way to the GPU, or resized where the CPU does that.

        Any thread may call it.
        """
        model = self._detector.model
        if self._takes_frames:
            with self.latency.measure("upload"):
                return frame._replace(image=self._detector.upload(frame.image))
        with self.latency.measure("resize"):
            rules = {"input_wh": model.input_wh, "resize": model.preprocess.resize}
            return frame._replace(resized=resize_image(frame.image, **rules))

    def finish(self) -> List[GestureEvent]:
        """End all tracks, because the source has ended; return what closes their gestures."""
        if self._ahead is not None:  # of a loop that ends before its source
            self._ahead.wait()
            self._ahead = None
        return self.expire()

    def expire(self) -> List[GestureEvent]:
        """Lose all tracks, because no frame comes; return what that tells. Frames may go on."""
        changes = self._lose(self._tracker.flush())
        if self._last is None:
            return []
        last = self._last._replace(arrived_s=time.perf_counter())
        return [self._event(last, change, []) for change in changes]

    def _start(self, frame: Frame) -> Wait:
        return start_detection(self._detector, frame.image, self.latency, resized=frame.resized)

    def _start_next(self, upcoming: Optional[Upcoming]) -> None:
        """Start the next frame if it waits already, where the detector runs beside this thread."""
        if upcoming is None or self._ahead is not None or not self._takes_frames:
            return
        frame = upcoming()
        if frame is not None:
            self._ahead = _Ahead(frame, self._start(frame))

    def _take_started(self, frame: Frame) -> Wait:
        """Return what waits for this frame's maps; one that was started in vain is let go."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return self._start(frame)
        if ahead.frame is frame:
            return ahead.wait
        ahead.wait()
        return self._start(frame)

    def _start_all(
        self, frame: Frame, xyxy: np.ndarray
    ) -> Tuple[Optional[np.ndarray], Optional[WaitRows]]:
        """Return the regions around all hands, and what waits for their probabilities.

        None without a classifier; the second also where only the tracks tell which hands are due.
        Where all are due a GPU classifies them while they are tracked.
        """
        if self._classifier is None:
            return None, None
        rule = self._classifier.model.roi or RoiRule()
        regions = expand_boxes(xyxy, rule, image_wh=_image_wh(frame.image))
        if self._classify_every > 1:
            return regions, None
        return regions, start_classification(self._classifier, frame.image, regions, self.latency)

    def _classify(
        self,
        frame: Frame,
        tracks: Sequence[int],
        regions: np.ndarray,
        classified: Optional[WaitRows],
    ) -> List[Tuple[int, Change]]:
        """Return what changes with the gestures of the hands that are due in this frame."""
        every = self._classify_every
        due = [n for n, t in enumerate(tracks) if (frame.number - t) % every == 0]
        if classified is None:
            classified = start_classification(
                self._classifier, frame.image, regions[due], self.latency
            )
        changes = []
        rows = classified()
        all_finite = is_finite(rows)
        for index, row in zip(due, rows):
            if all_finite or self._is_finite(row):
                track = tracks[index]
                found = self._smoother.update(track, row, time_s=frame.time_s)
                changes += [(track, change) for change in found]
        return changes

    def _is_finite(self, values: np.ndarray) -> bool:
        if is_finite(values):
            return True
        self._health.fault(
            "model_nan", "a network gave NaN or infinity; such results are left out and counted"
        )
        return False

    def _lose(self, tracks: Sequence[int]) -> List[Tuple[int, Change]]:
        return [(track, change) for track in tracks for change in self._smoother.lose(track)]

    def _hands(
        self, detections: Detections, tracks: Sequence[int], regions: Optional[np.ndarray]
    ) -> List[Hand]:
        hands = []
        rois: Iterable[Any] = [None] * len(tracks) if regions is None else regions
        found = zip(tracks, detections.xyxy, rois, detections.confidence.tolist())
        for track, xyxy, roi, confidence in found:
            current = self._smoother.current(track)
            gesture = None if current is None else self._classes[current.class_id]
            certainty = None if current is None else current.confidence
            hands.append(Hand(track, xyxy, roi, confidence, gesture, certainty))
        return hands

    def _event(
        self, last: _Last, tracked: Tuple[int, Change], hands: Sequence[Hand]
    ) -> GestureEvent:
        track, change = tracked
        hand = next((hand for hand in hands if hand.track == track), None)
        return change_event(
            change,
            classes=self._classes,
            time=last.time_s,
            source=self._source,
            frame=last.number,
            track=track,
            box=None if hand is None else hand.xyxy,
            roi=None if hand is None else hand.roi,
            image_wh=last.image_wh,
            latency_ms=_since_ms(last.arrived_s),
        )


def detect_hands(engine: Any, image: np.ndarray, latency: Latency) -> Detections:
    """Return the detections in a frame (H, W, 3) above the model's confidence_threshold."""
    wait = start_detection(engine, image, latency)
    with latency.measure("detect"):
        outputs = wait()
    return find_hands(engine.model, outputs, _image_wh(image), latency)


def start_detection(
    engine: Any, image: np.ndarray, latency: Latency, *, resized: Optional[np.ndarray] = None
) -> Wait:
    """Feed a frame (H, W, 3) to a detector; return what waits for its maps.

    resized: the frame at the engine's input size, where Pipeline.prepare has made it.
    """
    with latency.measure("preprocess"):
        return feed(engine, image if resized is None else resized)


def find_hands(
    model: Any,
    outputs: Mapping[str, np.ndarray],
    image_wh: Tuple[int, int],
    latency: Latency,
    *,
    check: Optional[Callable[[np.ndarray], bool]] = None,
) -> Detections:
    """Return the detections in a detector's maps, in pixels of the frame that they are of.

    check: is called with each output map; cells that are not finite find nothing either way.
    """
    for values in outputs.values() if check else ():
        check(values)  # type: ignore[misc]
    coverage_name, bbox_name = model.map_names
    with latency.measure("cluster"):
        return postprocess_maps(
            outputs[coverage_name][0],
            outputs[bbox_name][0],
            model.grid,
            model.postprocess,
            input_wh=model.input_wh,
            image_wh=image_wh,
            apply_confidence_threshold=True,
            resize=model.preprocess.resize,
        )


def classify_hands(
    engine: Any, image: np.ndarray, xyxy: np.ndarray, latency: Latency
) -> Tuple[np.ndarray, np.ndarray]:
    """Return the regions (N, 4) around tight boxes (N, 4), and class probabilities (N, C)."""
    rule = engine.model.roi or RoiRule()
    regions = expand_boxes(xyxy, rule, image_wh=_image_wh(image))
    return regions, start_classification(engine, image, regions, latency)()


def start_classification(
    engine: Any, image: np.ndarray, regions: np.ndarray, latency: Latency
) -> WaitRows:
    """Feed regions (N, 4) of a frame; return what waits for their class probabilities (N, C)."""
    if not len(regions):
        return lambda: np.zeros((0, len(engine.model.classes)), np.float32)
    with latency.measure("crop"):
        wait = feed(engine, image, regions)

    def finish() -> np.ndarray:
        with latency.measure("classify"):
            outputs = wait()
        return outputs[next(iter(engine.model.outputs))]

    return finish


def is_finite(values: np.ndarray) -> bool:
    """Whether there is neither NaN nor infinity among the values, of any shape."""
    # The sum of the squares is finite only if all values are; it may be too large, too. It takes
    # half of the time, once, and raises no warning.
    return math.isfinite(np.vdot(values, values)) or bool(np.isfinite(values).all())


def _check_kind(model: Any, kind: str) -> None:
    if model.kind != kind:
        raise DeployError(f"model {model.name} is a {model.kind}, expected a {kind}")


def _since_ms(arrived_s: float) -> float:
    """Milliseconds since a frame arrived, its wait for earlier frames included."""
    return (time.perf_counter() - arrived_s) * 1e3


def _image_wh(image: np.ndarray) -> Tuple[int, int]:
    return image.shape[1], image.shape[0]
