"""What benchmarks/tensorrt_gpu.py compares on a GPU: both APIs, the kernel, and bad input."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from deploy.build import build_model
from deploy.core.errors import DeployError
from deploy.core.model_json import add_sha256, read_model_json, write_model_json
from deploy.core.preprocess import image_to_tensor, images_to_batch
from deploy.core.roi import crop_regions
from deploy.engine import Engine, open_engine
from deploy.engine_tensorrt import load_libraries
from deploy.reference import sample_batch, sample_frames
from deploy.tensorrt_calls import API
from deploy.tensorrt_make import BuildOptions
from deploy.tensorrt_network import TensorRtNetwork
from deploy.tensorrt_record import ENGINE_NAME, engine_folder, find_engine

REGIONS = np.array(
    [[100.2, 50.7, 400.1, 350.9], [-80, -60, 200, 220], [1200, 600, 1400.5, 800.5]], np.float32
)
REPEATS = 100


def compare_apis(folder: Path, precision: str) -> dict[str, Any]:
    """Run an engine through each API that this TensorRT has, with CUDA graphs and without; return
    their largest difference, and by way the median milliseconds that starting a batch takes the
    host."""
    libraries = load_libraries()
    names = [
        name
        for name, feature in (("bindings", "num_bindings"), ("named", "num_io_tensors"))
        if hasattr(libraries.trt.ICudaEngine, feature) and name in API
    ]
    ways = {name: (name, libraries._replace(graphs=None)) for name in names}
    if libraries.graphs is not None:
        ways.update({f"{name}, graphs": (name, libraries) for name in names})
    plan = (engine_folder(folder, precision) / ENGINE_NAME).read_bytes()
    model = read_model_json(folder)
    answers, submit_ms = [], {}
    for way, (name, given) in ways.items():
        network = TensorRtNetwork(given, plan, model, api=name)
        answer, submit_ms[way] = _submit_often(network, sample_batch(model))
        answers.append(answer)
        network.close()
    apart = [
        float(np.abs(answers[0][output] - other[output]).max())
        for other in answers[1:]
        for output in other
    ]
    largest = max(apart) if apart else 0.0
    return {"tried": list(ways), "largest_difference": largest, "submit_ms_p50": submit_ms}


def _submit_often(
    network: TensorRtNetwork, batch: np.ndarray
) -> tuple[dict[str, np.ndarray], float]:
    """Return the last of REPEATS answers, and the median milliseconds of submitting."""
    batch = batch[: network.max_batch]
    samples = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        ticket = network.submit(batch)
        samples.append((time.perf_counter() - started) * 1e3)
        outputs = network.collect(ticket)
    return outputs, round(float(np.median(samples)), 4)


def compare_kernel(folders: list[Path]) -> dict[str, Any]:
    """Compare the GPU's inputs with the CPU's, in levels of 255, for each built model."""
    found = {}
    for folder in folders:
        if find_engine(folder, "auto") is None:
            continue
        with open_engine(folder, runtime="tensorrt") as engine:
            if not engine.takes_frames:
                found[folder.name] = {"error": "the kernel was not compiled: is nvcc there?"}
            else:
                found[folder.name] = _compare_one(engine)
    return found


def _compare_one(engine: Engine) -> dict[str, Any]:
    model = engine.model
    rules = model.preprocess._asdict()
    image = sample_frames(1)[0]
    regions = None if model.kind == "detector" else REGIONS
    engine.put_frame(image, regions)
    seen = engine.made_input()
    engine.run_frame()
    if regions is None:
        expected = image_to_tensor(image, input_wh=model.input_wh, **rules)[None]
    else:
        crops = list(crop_regions(image, regions, size_wh=model.input_wh))
        expected = images_to_batch(crops, input_wh=model.input_wh, **rules)
    levels = np.abs(seen - expected[: len(seen)]) / abs(model.preprocess.scale)
    samples = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        engine.put_frame(image, regions)
        engine.run_frame()
        samples.append((time.perf_counter() - started) * 1e3)
    return {
        "levels_p99": float(np.percentile(levels, 99)),
        "levels_max": float(levels.max()),
        "share_equal": float((levels < 0.01).mean()),
        "round_trip_ms_p50": round(float(np.percentile(samples, 50)), 4),
    }


def provoke(source: Path) -> dict[str, str]:
    """Return the answers to a cut engine, a cut ONNX file, a poor cache and a DLA core."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        shutil.copytree(source, folder)
        found = {"cut engine": _answer(_load_cut_engine, folder)}
        model = read_model_json(folder)
        if "calibration" in model.files:
            found["poor cache"] = _answer(_build_with_poor_cache, folder)
        found["dla"] = _answer(build_model, folder, BuildOptions(dla=0, unchecked=True))
        path = folder / model.files["fp32"]
        path.write_bytes(path.read_bytes()[:-1000])
        write_model_json(folder, add_sha256(folder, model))
        options = BuildOptions(precision="fp32", unchecked=True)
        found["cut onnx"] = _answer(build_model, folder, options)
    return found


def _load_cut_engine(folder: Path) -> None:
    place = find_engine(folder, "auto")
    if place is None:
        raise DeployError("no engine was built")
    plan = (place / ENGINE_NAME).read_bytes()
    model = read_model_json(folder)
    TensorRtNetwork(load_libraries(), plan[: len(plan) // 2], model).close()


def _build_with_poor_cache(folder: Path) -> None:
    model = read_model_json(folder)
    path = folder / model.files["calibration"]
    before = path.read_bytes()
    path.write_bytes(before.split(b"\n")[0] + b"\nno such tensor: 3c010204\n")
    write_model_json(folder, add_sha256(folder, model))
    try:
        options = BuildOptions(precision="int8", quantization="cache", unchecked=True)
        build_model(folder, options)
    finally:
        path.write_bytes(before)
        write_model_json(folder, add_sha256(folder, model))


def _answer(function: Any, *arguments: Any) -> str:
    try:
        function(*arguments)
    except DeployError as error:
        return str(error)
    return "no error"
