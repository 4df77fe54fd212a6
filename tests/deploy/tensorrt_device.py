"""A recorded TensorRT and CUDA in place of the real ones, and model folders that they can run."""

import importlib.util

import numpy as np

from deploy import engine_tensorrt
from deploy.core.model_json import add_sha256, write_model_json
from deploy.reference import FILE_NAME, sample_batch
from deploy.tensorrt_messages import make_logger
from deploy.tensorrt_network import Libraries
from tests.deploy import tiny_models
from tests.deploy.recorded_pycuda import make_pycuda
from tests.deploy.recorded_tensorrt import make_tensorrt

# The recorded TensorRT answers by ONNX Runtime, the real one parses ONNX itself.
HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))
CACHE = "TRT-8503-EntropyCalibration2\ninput_1: 3c010204\n"


def use_device(monkeypatch, version="8.5", *, trt=None, cuda=None):
    """Let engine_tensorrt load recorded libraries; return them."""
    trt = trt or make_tensorrt(version)
    cuda = cuda or make_pycuda()
    libraries = Libraries(trt, cuda, make_logger(trt))
    monkeypatch.setattr(engine_tensorrt, "_LOADED", {"tensorrt": libraries})
    return libraries


def write_detector(folder, *, cache=CACHE, as_onnx=HAS_ONNX):
    """Write the tiny detector with a calibration cache; a NumPy one unless as_onnx."""
    folder.mkdir(parents=True, exist_ok=True)
    info = tiny_models.detector_info()
    info = info._replace(files=dict(info.files, calibration="calibration_qat.bin"))
    (folder / "calibration_qat.bin").write_text(cache, encoding="ascii")
    return _write(folder, info, tiny_models.write_detector, tiny_models.detect, as_onnx)


def write_classifier(folder, *, as_onnx=HAS_ONNX):
    """Write the tiny classifier; a NumPy one unless as_onnx."""
    folder.mkdir(parents=True, exist_ok=True)
    info = tiny_models.classifier_info()
    return _write(folder, info, tiny_models.write_classifier, tiny_models.classify, as_onnx)


def _write(folder, info, write_onnx, compute, as_onnx):
    if as_onnx:
        write_onnx(folder)
    else:
        for role in ("fp32", "qdq"):
            if role in info.files:
                (folder / info.files[role]).write_bytes(f"numpy:{info.kind}".encode())
    info = add_sha256(folder, info)
    write_model_json(folder, info)
    if not as_onnx:
        write_numpy_reference(folder, info, compute)
    return folder


def write_numpy_reference(folder, info, compute):
    """Write reference.npz from the NumPy model."""
    stored = {}
    for role in ("fp32", "qdq"):
        if role in info.files:
            stored["sha256|" + role] = np.array(info.sha256[info.files[role]])
            answers = compute(sample_batch(info))
            stored.update({f"{role}|{name}": answers[name] for name in answers})
    np.savez(str(folder / FILE_NAME), **stored)
