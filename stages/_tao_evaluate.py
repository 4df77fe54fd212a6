"""What `evaluate` adds for models of the TAO backend: TAO's own figure, and TAO's detections.

From TAO 5 on a model folder has an ONNX file, which deploy's engine measures as any other; TAO's
mean average precision on the same frames stands beside it. Encrypted networks run in TAO alone:
there its `inference` detects, and the figures are of what it found.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy.core.average_precision import evaluate_detections
from deploy.core.boxes import Detections
from deploy.core.cluster import Postprocess
from deploy.core.errors import UserError
from deploy.core.kitti import label_boxes, read_labels
from deploy.core.model_json import ModelInfo
from deploy.evaluation import Evaluation
from deploy.frames import Frame, group_by_video, read_image
from stages._stage import Stage
from stages._tao import KITTI, open_bench
from stages.detectnet.config import FitConfig
from stages.tao import tasks
from stages.tao.config import TaoConfig
from stages.tao.experiment import Network, render_experiment
from stages.tao.model_folder import ModelFacts, model_file, read_facts
from stages.tao.spec import CLASS, Source, render_inference
from stages.tao.steps import Bench

SIDE = "measured"
LARGEST_BATCH = 16
RUNNABLE = ("torch", "qdq", "fp32")


class TaoModel:
    """A model of TAO with the frames to measure it on, in its stage's work folder."""

    def __init__(
        self, stage: Stage, tao: TaoConfig, folder: Path, frames: Sequence[Frame]
    ) -> None:
        self.facts: ModelFacts = read_facts(folder, tao.generation)
        self.bench: Bench = open_bench(stage, tao)
        self.frames = frames
        stems = [frame.stem for frame in frames]
        self.source: Source = tasks.place_side(
            self.bench, SIDE, stage.dep(KITTI), stems, input_wh=self.facts.input_wh
        )
        suffix = self.bench.generation.model_suffix
        self.model = tasks.place_file(self.bench, model_file(folder), f"model{suffix}")

    def measure(self, postprocess: Postprocess) -> float:
        """Return TAO's mean average precision in [0, 1], with these constants."""
        network = Network(self.facts.num_layers, self.facts.input_wh, self.facts.all_projections)
        spec = render_experiment(
            network,
            FitConfig(batch_size=whole_batch(len(self.frames))),  # no more of it enters the figure
            postprocess,
            self.bench.config,
            self.bench.generation,
            train=self.source,
            validation=self.source,
        )
        return tasks.evaluate(self.bench, self.model, spec)

    def detect(self, postprocess: Postprocess, videos: Mapping[str, str]) -> Evaluation:
        """Return the figures of TAO's own detections."""
        spec = render_inference(
            self.bench.inside(self.model),
            self.facts.input_wh,
            postprocess,
            self.bench.config,
            self.bench.generation,
        )
        labels = tasks.infer(self.bench, self.model, spec, f"{self.source.folder}/images")
        found = {
            frame.stem: read_detections(labels, frame, input_wh=self.facts.input_wh)
            for frame in self.frames
        }
        return evaluate_found(found, self.frames, videos, postprocess)


def whole_batch(num_frames: int) -> int:
    """Return the largest batch that leaves no frame over; TAO drops an incomplete last one."""
    return next(
        size for size in range(min(LARGEST_BATCH, num_frames), 0, -1) if not num_frames % size
    )


def can_run(info: ModelInfo) -> bool:
    """Whether deploy's engines or PyTorch run a file of the model."""
    return any(role in info.files for role in RUNNABLE)


def refuse_encrypted(info: ModelInfo) -> None:
    """Raise UserError for a model that neither TAO's evaluate nor an engine can measure."""
    if "etlt" in info.files:
        raise UserError(
            f"{info.files['etlt']} is encrypted and runs in NVIDIA's TensorRT alone; measure "
            "models/retrain instead (dvc repro evaluate@retrain), convert it on the device "
            "(docs/tao.md), or set backend.tao.generation to tao5, which exports ONNX"
        )


def read_detections(labels: Path, frame: Frame, *, input_wh: tuple[int, int]) -> Detections:
    """Read one frame's KITTI labels with scores, and bring them to the frame's own pixels."""
    path = labels / f"{frame.stem}.txt"
    found = read_labels(path, allow_score=True) if path.is_file() else []
    hands = [label for label in found if label.type.lower() == CLASS]
    height, width = read_image(frame.image_path).shape[:2]
    scale = np.array([width / input_wh[0], height / input_wh[1]] * 2, np.float32)
    scores = [1.0 if label.score is None else label.score for label in hands]
    return Detections(
        xyxy=label_boxes(hands) * scale,
        confidence=np.array(scores, np.float32),
        class_id=np.zeros(len(hands), np.int64),
    )


def evaluate_found(
    found: Mapping[str, Detections],
    frames: Sequence[Frame],
    videos: Mapping[str, str],
    postprocess: Postprocess,
) -> Evaluation:
    """Compare detections by stem with the truth, overall and by video."""
    truths = {frame.stem: frame.truth for frame in frames}
    threshold = postprocess.confidence_threshold

    def of(stems: Sequence[str]) -> Any:
        return evaluate_detections(
            {stem: found[stem] for stem in stems},
            {stem: truths[stem] for stem in stems},
            confidence_threshold=threshold,
        )

    groups = group_by_video(list(truths), videos)
    per_video = {video: of(stems) for video, stems in groups.items()}
    return Evaluation(of(sorted(truths)), per_video, found)
