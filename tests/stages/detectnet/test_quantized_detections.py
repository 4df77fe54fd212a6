"""Boxes and confidences of the 8-bit files in ONNX Runtime against the network that was trained.

One small network learns red squares, is quantized by each preset, trained for one more epoch and
exported. Detections must be the same ones, one to one, within a tolerance:

- the Q/DQ file taken literally, and the stored network: IoU 0.95, confidence 0.02. They compute
  the same (measured: IoU 1, 0), but where two programs add in another order a value near the
  middle between two steps may tip over, and moves the boxes behind it by a fraction of a pixel;
- the Q/DQ file with ONNX Runtime's optimisations, which round the biases too: IoU 0.85, confidence
  0.03 (measured 0.93 and 0.002; squares are 16 to 26 pixels wide, half a pixel is an IoU of 0.95);
- the FP32 file with its cache, whose heads are not rounded, and whose kernels have other steps
  where the preset has one range per kernel: IoU 0.85, confidence 0.03 (measured 0.92 and 0.009).
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from torch import nn

from deploy.core.boxes import Detections, box_iou
from deploy.core.cluster import postprocess_maps
from deploy.core.grid import Grid
from stages._config import section_of
from stages.detectnet.augment import to_input
from stages.detectnet.calibration_cache import parse_cache
from stages.detectnet.checkpoint import load_checkpoint, load_model, save_model
from stages.detectnet.compression_config import ExportConfig, RetrainConfig
from stages.detectnet.config import AugmentConfig, FitConfig
from stages.detectnet.exporting import FILES, export_detector
from stages.detectnet.model import DetectNet, build_architecture
from stages.detectnet.retraining import retrain_model
from stages.detectnet.training import fit
from tests.stages.detectnet.implicit_int8 import emulate_implicit_int8
from tests.stages.detectnet.pictures import INPUT_WH, POSTPROCESS, draw_samples

CONF = Path(__file__).parents[3] / "conf"
SAMPLES = draw_samples(8)
# Each preset of conf/retrain, and the folded kernels with one range each that neither has.
PRESETS = {
    "default": {},
    "tao": {},
    "folded": {
        "fold_batch_norm": True,
        "weight_axis": "tensor",
        "range_rule": "calibrated",
    },
}

# Lightning Fabric asks for more workers or tunes threads; nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric")


class Exported(NamedTuple):
    """The folder of the files, and the trained network with modelopt's quantizers."""

    folder: Path
    trained: DetectNet


@pytest.fixture(scope="module")
def float_model() -> DetectNet:
    """A network that has learnt the squares by heart."""
    torch.manual_seed(3)
    model = DetectNet(build_architecture(10, width=8, input_wh=list(INPUT_WH)))
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 0.2
    config = FitConfig(
        epochs=40,
        batch_size=4,
        learning_rate=2e-2,
        ema_decay=0.5,
        precision="32-true",
        accelerator="cpu",
        validate_every_epochs=0,
        augment=AugmentConfig(enabled=False),
    )
    fit(model, SAMPLES, None, config, postprocess=POSTPROCESS, work_dir=None)
    return model


@pytest.fixture(scope="module", params=list(PRESETS))
def exported(
    request: pytest.FixtureRequest,
    float_model: DetectNet,
    tmp_path_factory: pytest.TempPathFactory,
) -> Exported:
    """Quantize, train for one epoch and export."""
    folder = tmp_path_factory.mktemp(request.param)
    model = retrain_model(
        float_model,
        SAMPLES,
        None,
        one_epoch(request.param),
        postprocess=POSTPROCESS,
        work_dir=None,
    ).model
    save_model(folder, model, postprocess=POSTPROCESS)
    export_detector(folder, load_checkpoint(folder), ExportConfig(check_images=1))
    return Exported(folder, model)


def one_epoch(preset: str) -> RetrainConfig:
    """Read a preset and shorten it to one epoch of the second phase."""
    path = CONF / "retrain" / ("tao.yaml" if preset == "tao" else "default.yaml")
    config = section_of({"retrain": yaml.safe_load(path.read_text())}, RetrainConfig)
    short = dataclasses.replace(
        config.qat_fit, epochs=1, batch_size=4, accelerator="cpu", validate_every_epochs=0
    )
    return dataclasses.replace(
        config, float_fit=None, qat_fit=short, batch_norm_images=0, **PRESETS[preset]
    )


Maps = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def torch_maps(model: DetectNet) -> Maps:
    def infer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            coverage, bbox = model(torch.from_numpy(images))
        return coverage.numpy(), bbox.numpy()

    return infer


def onnx_maps(model: onnx.ModelProto, *, literal: bool) -> Maps:
    """Run a file in ONNX Runtime, node by node or with its optimisations."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if literal else levels.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda images: tuple(
        session.run(["output_cov/Sigmoid", "output_bbox/BiasAdd"], {"input_1": images})
    )


def detect(maps: Maps) -> Iterator[Detections]:
    """Yield what is found in each picture, confident or not."""
    images = to_input(torch.from_numpy(SAMPLES.images)).contiguous().numpy()
    for coverage, bbox in zip(*maps(images), strict=True):
        yield postprocess_maps(
            coverage,
            bbox,
            Grid(),
            POSTPROCESS,
            input_wh=INPUT_WH,
            image_wh=INPUT_WH,
            apply_confidence_threshold=False,
        )


def assert_same_detections(one: Maps, other: Maps, *, iou: float, confidence: float) -> None:
    """Each confident detection of either side has its like on the other, one to one."""
    for ours, theirs in zip(detect(one), detect(other), strict=True):
        for found, wanted in ((ours, theirs), (theirs, ours)):
            confident = found.confidence >= POSTPROCESS.confidence_threshold
            overlap = box_iou(found.xyxy[confident], wanted.xyxy)
            best = overlap.argmax(axis=1)
            assert len(set(best)) == len(best)
            assert (overlap.max(axis=1) >= iou).all(), overlap.max(axis=1)
            difference = np.abs(found.confidence[confident] - wanted.confidence[best])
            assert (difference <= confidence).all(), difference


def test_the_network_finds_the_squares(exported: Exported) -> None:
    """Else the tests below would compare nothing."""
    hits = 0
    for index, found in enumerate(detect(torch_maps(exported.trained))):
        kept = found.xyxy[found.confidence >= POSTPROCESS.confidence_threshold]
        if len(kept):
            hits += int((box_iou(SAMPLES.boxes[index], kept).max(axis=1) > 0.5).sum())
    assert hits >= 0.8 * sum(len(boxes) for boxes in SAMPLES.boxes)


def test_the_stored_network_detects_the_same(exported: Exported) -> None:
    stored = torch_maps(load_model(exported.folder))
    assert_same_detections(torch_maps(exported.trained), stored, iou=0.95, confidence=0.02)


def test_the_qdq_file_detects_the_same(exported: Exported) -> None:
    file = onnx_maps(onnx.load(exported.folder / FILES["qdq"]), literal=True)
    assert_same_detections(torch_maps(exported.trained), file, iou=0.95, confidence=0.02)


def test_the_optimised_qdq_file_detects_the_same(exported: Exported) -> None:
    file = onnx_maps(onnx.load(exported.folder / FILES["qdq"]), literal=False)
    assert_same_detections(torch_maps(exported.trained), file, iou=0.85, confidence=0.03)


@pytest.mark.parametrize("fused", [True, False])
def test_the_float_file_with_its_cache_detects_the_same(exported: Exported, fused: bool) -> None:
    text = (exported.folder / FILES["calibration"]).read_text()
    scales = parse_cache(text, source="cache").scales
    model = onnx.load(exported.folder / FILES["fp32"])
    file = onnx_maps(emulate_implicit_int8(model, scales, fused=fused), literal=True)
    assert_same_detections(torch_maps(exported.trained), file, iou=0.85, confidence=0.03)
