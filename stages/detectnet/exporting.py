"""Write the files of models/export from a retrained network, each checked before it counts."""

from pathlib import Path
from typing import NamedTuple

from stages.detectnet.calibration_cache import format_cache, tensorrt_number
from stages.detectnet.checkpoint import Checkpoint
from stages.detectnet.compression_config import ExportConfig
from stages.detectnet.errors import DetectNetError
from stages.detectnet.onnx_export import (
    FLOAT_OPSET,
    QDQ_OPSET,
    Difference,
    check_difference,
    export_onnx,
    measure_difference,
    rounding_effect,
    tensor_ranges,
)
from stages.detectnet.rounding import round_model

FILES = {
    "fp32": "detector.onnx",
    "qdq": "detector_qdq.onnx",
    "calibration": "calibration_qat.bin",
}


class Exported(NamedTuple):
    """How far ONNX Runtime is from PyTorch with each file, and how many tensors have a range."""

    fp32: Difference
    qdq: Difference
    num_ranges: int


def export_detector(folder: Path, checkpoint: Checkpoint, config: ExportConfig) -> Exported:
    """Write FILES into an existing folder.

    Raises DetectNetError for a network without ranges, and when a file does not compute what
    PyTorch computes.
    """
    import onnx

    model, ranges = checkpoint
    if ranges is None:
        raise DetectNetError(
            "the model is not quantized, expected one with 8-bit ranges; export starts from "
            "models/retrain: dvc repro retrain"
        )
    exported = export_onnx(model, opset=FLOAT_OPSET)
    onnx.save(exported, folder / FILES["fp32"])
    rounded = round_model(model, ranges)
    onnx.save(export_onnx(rounded, opset=QDQ_OPSET), folder / FILES["qdq"])
    by_tensor = tensor_ranges(exported, ranges)
    cache = format_cache(by_tensor, version=tensorrt_number(config.tensorrt_version))
    (folder / FILES["calibration"]).write_text(cache, encoding="ascii")
    fp32 = measure_difference(model, folder / FILES["fp32"], num_images=config.check_images)
    check_difference(fp32.coverage, folder / FILES["fp32"], tolerance=config.tolerance_float)
    qdq = measure_difference(rounded, folder / FILES["qdq"], num_images=config.check_images)
    effect = rounding_effect(model, rounded, num_images=config.check_images)
    tolerance = max(config.tolerance_float, config.tolerance_qdq * effect)
    check_difference(qdq.coverage_mean, folder / FILES["qdq"], tolerance=tolerance)
    return Exported(fp32, qdq, len(by_tensor))
