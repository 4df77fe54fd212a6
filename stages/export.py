"""Stage `export`: models/retrain -> models/export, the files that devices read.

detector.onnx (FP32, opset 11), detector_qdq.onnx (8-bit, opset 13), calibration_qat.bin (the same
ranges for TensorRT's implicit INT8) and model.json. Both ONNX files are checked against PyTorch.
Run: dvc repro export, or python -m stages.export --out DIR (seconds).
"""

import dataclasses
import sys
from pathlib import Path

from deploy.core.cluster import Postprocess
from deploy.core.model_json import write_model_json
from stages import _tao
from stages._schema import BackendConfig, PostprocessConfig
from stages._stage import Stage, Summary, main
from stages.detectnet.checkpoint import detector_info, load_checkpoint
from stages.detectnet.compression_config import ExportConfig
from stages.detectnet.exporting import FILES, export_detector

RETRAINED = Path("models/retrain")
EXPORTED = Path("models/export")


def run(stage: Stage) -> Summary:
    """Export, check, and describe the files."""
    stage.need("onnx", "onnxruntime")
    config, backend = stage.section(ExportConfig), stage.section(BackendConfig)
    postprocess = Postprocess(**dataclasses.asdict(stage.section(PostprocessConfig)))
    if backend.is_tao:
        return _tao.export(stage, backend.tao, config, stage.dep(RETRAINED), postprocess)
    checkpoint = load_checkpoint(stage.dep(RETRAINED))
    with stage.writing(EXPORTED) as folder:
        exported = export_detector(folder, checkpoint, config)
        info = detector_info(folder, checkpoint.model.architecture, dict(FILES), postprocess)
        write_model_json(folder, info)
        sizes = {role: (folder / name).stat().st_size / 1000 for role, name in FILES.items()}
    stage.tracker.log_model(stage.out(EXPORTED) / FILES["qdq"], name="egohands-detector")
    stage.write_metrics(
        {
            "fp32_coverage_difference": exported.fp32.coverage,
            "fp32_bbox_difference": exported.fp32.bbox,
            "fp32_kb": sizes["fp32"],
            "qdq_coverage_difference": exported.qdq.coverage,
            "qdq_coverage_mean_difference": exported.qdq.coverage_mean,
            "qdq_bbox_difference": exported.qdq.bbox,
            "qdq_kb": sizes["qdq"],
            "calibration_tensors": exported.num_ranges,
        }
    )
    counts = {"KB FP32": sizes["fp32"], "KB Q/DQ": sizes["qdq"], "ranges": exported.num_ranges}
    return Summary(counts, stage.out(EXPORTED))


if __name__ == "__main__":
    sys.exit(main("export", run))
