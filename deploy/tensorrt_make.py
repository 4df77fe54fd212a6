"""Make the TensorRT engine of a model folder: choose, build, check, put in place.

deploy.build is the program; deploy/reference.py has what an engine is checked against. What lay in
place before stays until the new engine is whole.
"""

import logging
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from deploy.core.errors import DeployError
from deploy.core.model_json import ModelInfo, hash_file
from deploy.reference import Reference, compare, find_fault, find_reference, sample_batch
from deploy.tensorrt_builder import BuildRequest, build_plan_bytes, describe_capabilities
from deploy.tensorrt_device import Device
from deploy.tensorrt_graphs import PLAIN_RUNS
from deploy.tensorrt_kernel import compile_kernel
from deploy.tensorrt_network import NUM_SLOTS, Libraries, TensorRtNetwork
from deploy.tensorrt_plan import AUTO, BuildPlan, Capabilities, plan_build, typed_name
from deploy.tensorrt_record import (
    ENGINE_NAME,
    FOLDER,
    EngineRecord,
    engine_folder,
    write_record,
)

LOGGER = logging.getLogger(__name__)

TIMING_CACHE = "timing.cache"
WORKSPACE_MB = 1024
# Largest batch by the kind of model, if none is asked for: a frame, and the hands of a frame.
BATCHES = {"detector": 1, "classifier": 4}
CONVERTERS = {"tlt-converter": ((7, 0), (8, 0)), "tao-converter": ((8, 0), (8, 6))}


class BuildOptions(NamedTuple):
    """What a person may ask for; see the command line."""

    precision: str = AUTO
    quantization: str = AUTO
    batch: Optional[int] = None
    dla: Optional[int] = None
    strict: bool = False
    typed: bool = False
    lean: bool = True
    workspace_mb: int = WORKSPACE_MB
    unchecked: bool = False


def make_engine(
    model_dir: Path, model: ModelInfo, options: BuildOptions, libraries: Libraries, device: Device
) -> EngineRecord:
    """Build the engine of a model folder and put it in place; return its engine.json.

    Raises DeployError: nothing to check it against, TensorRT fails, or the engine answers wrongly.
    """
    capabilities, plan = _choose(model, options, libraries, device)
    LOGGER.info("%s: %s from %s; %s", model.name, plan.precision, plan.file, plan.reason)
    reference = _reference(model_dir, model, plan, unchecked=options.unchecked)
    (model_dir / FOLDER).mkdir(parents=True, exist_ok=True)
    request = BuildRequest(
        onnx=model_dir / plan.file,
        precision=plan.precision,
        quantization=plan.quantization,
        calibration=model_dir / plan.calibration if plan.calibration else None,
        profile=(1, 1, options.batch or BATCHES[model.kind]),
        dla=plan.dla,
        workspace_mb=_workspace_mb(device, options.workspace_mb),
        typed=options.typed or not capabilities.has_precision_flags,
        lean=options.lean,
        timing_cache=model_dir / FOLDER / TIMING_CACHE,
    )
    started = time.perf_counter()
    with device.current():
        built = build_plan_bytes(libraries.trt, libraries.logger, model, request)
    record = EngineRecord(
        tensorrt=capabilities.version,
        gpu=device.name,
        sm=device.sm,
        dla=plan.dla,
        precision=plan.precision,
        quantization=plan.quantization,
        profile=built.profile,
        onnx=plan.file,
        onnx_sha256=hash_file(model_dir / plan.file),
        calibration_sha256=hash_file(model_dir / plan.calibration) if plan.calibration else None,
        engine_sha256="",
        seconds=round(time.perf_counter() - started, 2),
        reference="none" if reference is None else reference.source,
        check=_check(libraries, built.plan, model, plan, reference),
    )
    return _put(model_dir, built.plan, record, device.sm)


def _choose(
    model: ModelInfo, options: BuildOptions, libraries: Libraries, device: Device
) -> Tuple[Capabilities, BuildPlan]:
    with device.current():
        capabilities = describe_capabilities(
            libraries.trt, libraries.logger, gpu=device.name, sm=device.sm
        )
    plan = plan_build(
        capabilities,
        model,
        precision=options.precision,
        quantization=options.quantization,
        dla=options.dla,
        strict=options.strict,
    )
    return capabilities, plan


def with_typed_file(model_dir: Path, model: ModelInfo) -> ModelInfo:
    """Add the FP16-typed file that a person made beside the FP32 one, for TensorRT 11."""
    typed = typed_name(model.files.get("fp32", ""))
    if not (model_dir / typed).is_file():
        return model
    return model._replace(files=dict(model.files, fp16=typed))


def _reference(
    model_dir: Path, model: ModelInfo, plan: BuildPlan, *, unchecked: bool
) -> Optional[Reference]:
    """Find the answers before the long build, not after it."""
    if unchecked:
        return None
    role = "qdq" if plan.precision == "int8" and "qdq" in model.files else "fp32"
    reference = find_reference(model_dir, model, sample_batch(model), role=role)
    if reference is None:
        raise DeployError(
            f"{model_dir}: nothing to check the engine against: install onnxruntime, or write "
            "reference.npz on a machine that has it (python -m deploy.build --write-reference "
            f"--model {model_dir}) and copy it here, or give --unchecked"
        )
    return reference


def _check(
    libraries: Libraries,
    content: bytes,
    model: ModelInfo,
    plan: BuildPlan,
    reference: Optional[Reference],
) -> Dict[str, Any]:
    """Run the engine on the sample frames. Raises DeployError when it answers otherwise."""
    network = TensorRtNetwork(libraries, content, model, dla=plan.dla)
    batch = sample_batch(model)
    try:
        # The last one is replayed from a CUDA graph, as nearly all of deploy.run's are.
        for _ in range(PLAIN_RUNS + NUM_SLOTS):
            outputs = network.infer(batch)
    finally:
        network.close()
    if reference is None:
        if not all(np.isfinite(value).all() for value in outputs.values()):
            raise DeployError(f"model {model.name}: the engine answers NaN; build fp32 or fp16")
        return {}
    differences = compare(outputs, reference.outputs)
    fault = find_fault(differences, precision=plan.precision)
    if fault is not None:
        name, allowed = fault
        raise DeployError(
            f"model {model.name}: the {plan.precision} engine answers otherwise than "
            f"{reference.source}: {name} differs by {differences[name]['p99']:.3g} (99th "
            f"percentile), expected at most {allowed:.3g}; build another --precision, or "
            "--tactics all"
        )
    return {
        name: {key: round(value, 6) for key, value in found.items()}
        for name, found in differences.items()
    }


def _put(model_dir: Path, content: bytes, record: EngineRecord, sm: str) -> EngineRecord:
    """Write engine and engine.json aside, then rename their folder into place."""
    compile_kernel(model_dir / FOLDER, sm)
    place = engine_folder(model_dir, record.precision, record.dla)
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=str(place.parent), prefix=".building-"))
    try:
        (aside / ENGINE_NAME).write_bytes(content)
        record = record._replace(engine_sha256=hash_file(aside / ENGINE_NAME))
        write_record(aside, record)
        aside.chmod(0o755)
        old = aside.with_name(aside.name + "-old")
        if place.exists():
            os.replace(str(place), str(old))
        os.replace(str(aside), str(place))
        shutil.rmtree(str(old), ignore_errors=True)
    except OSError as error:
        raise DeployError(f"{place}: cannot be written: {error.strerror}; make room") from None
    finally:
        shutil.rmtree(str(aside), ignore_errors=True)
    return record


def take_in_engine(
    model_dir: Path, model: ModelInfo, libraries: Libraries, device: Device
) -> EngineRecord:
    """Take the engine that NVIDIA's converter wrote into the model folder in as our own."""
    etlt = model.files["etlt"]
    path = (model_dir / etlt).with_suffix(".engine")
    version = str(libraries.trt.__version__)
    if not path.is_file():
        raise DeployError(
            f"model {model.name} is encrypted ({etlt}) and {path.name} is not there; "
            f"{converter_hint(model_dir, model, version)}"
        )
    content = path.read_bytes()
    network = TensorRtNetwork(libraries, content, model)
    try:
        outputs = network.infer(sample_batch(model))
        largest = network.max_batch
    finally:
        network.close()
    if not all(np.isfinite(value).all() for value in outputs.values()):
        raise DeployError(f"{path}: answers NaN; convert it again with -t fp32")
    record = EngineRecord(
        tensorrt=version,
        gpu=device.name,
        sm=device.sm,
        dla=None,
        precision="fp16",  # what convert.md asks the converter for
        quantization=None,
        profile=(1, 1, largest),
        onnx=etlt,
        onnx_sha256=hash_file(model_dir / etlt),
        calibration_sha256=None,
        engine_sha256="",
        seconds=0.0,
        reference="none: the model is encrypted",
        check={},
    )
    return _put(model_dir, content, record, device.sm)


def converter_hint(model_dir: Path, model: ModelInfo, version: str) -> str:
    """Return the converter's command line for a TensorRT, as convert.md in the folder has it."""
    number = tuple(int(part) for part in version.split(".")[:2])
    guide = model_dir / model.files.get("convert", "convert.md")
    names = [name for name, (low, high) in CONVERTERS.items() if low <= number < high]
    if not names:
        return (
            f"NVIDIA made no converter for TensorRT {version}; use gesture=open, or decrypt the "
            f"file to ONNX on another machine ({guide.name})"
        )
    text = guide.read_text(encoding="utf-8") if guide.is_file() else ""
    commands: List[str] = re.findall(rf"^ +(\./{names[0]} .*)$", text, re.MULTILINE)
    command = commands[0] if commands else f"{names[0]}, see {guide}"
    return f"run in {model_dir}, with the key in $NGC_MODEL_KEY: {command}"


def _workspace_mb(device: Device, asked: int) -> int:
    """Return the scratch memory: as asked, but no more than half of what is free."""
    with device.current():
        return max(16, min(asked, device.free_mb() // 2))
