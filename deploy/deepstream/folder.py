"""Everything that a folder for DeepStream or Triton holds, and writing it.

Files are made in memory first: a folder is written whole or not at all.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from deploy.core.errors import DeployError
from deploy.core.model_json import FILE_NAME, ModelInfo, check_sha256, read_model_json
from deploy.deepstream import app_config, guide, server_config, triton
from deploy.deepstream.endpoints import parse_source, refuse_blanks
from deploy.deepstream.versions import DeepStream, parse_number

Files = Dict[str, bytes]

APP_FILE = "deepstream_app_config.txt"
TENSOR_FILE = "config_infer_gesture_tensor.txt"
MARGIN_FILE = "margin.json"
KEY_VARIABLE = "TLT_MODEL_KEY"
# TensorRT 7 reads no Q/DQ.
FIRST_QDQ_TENSORRT = (8, 0)
LAST_ETLT_TENSORRT = (8, 5)


class Request(NamedTuple):
    """What a DeepStream folder is asked for; gesture may be None, precision and tracker "auto"."""

    release: DeepStream
    model: Path
    gesture: Optional[Path]
    source: str
    sinks: Sequence[str]
    precision: str = "auto"
    engine: Optional[str] = None
    tracker: str = "auto"
    form: str = "plan"


def deepstream_files(request: Request) -> Files:
    """Return the files of a DeepStream folder by name. Raises DeployError for what cannot be."""
    release = request.release
    detector = _read_model(request.model, "detector", "--model")
    source = parse_source(request.source)
    files: Files = {}
    notes: List[str] = []
    builds: List[guide.Build] = []
    nvinfer = _add_detector(files, notes, builds, request, detector)
    gesture, needed = None, {}
    if request.gesture is not None:
        gesture = _read_model(request.gesture, "classifier", "--gesture")
        needed = _add_gesture(files, notes, builds, request, gesture)
    groups = app_config.app_groups(
        source,
        request.sinks,
        release,
        tracker=request.tracker,
        has_gesture=gesture is not None,
    )
    files[APP_FILE] = app_config.write_ini(groups).encode()
    groups = app_config.detector_groups(detector, nvinfer, release)
    files[app_config.DETECTOR_FILE] = app_config.write_ini(groups).encode()
    files[app_config.LABELS_FILE] = "".join(f"{name}\n" for name in detector.classes).encode()
    if gesture is not None:
        files[MARGIN_FILE] = _margin_json(request, source.uri, is_live=source.is_live)
    script = guide.run_script(builds, release, f"deepstream-app -c {APP_FILE}", needed=needed)
    files["run.sh"] = script.encode()
    notes.append(f"tracker: {_tracker_file(app_config.tracker_pairs(request.tracker, release))}")
    text = guide.readme(
        release, folder_name="gestures", notes=notes, has_gesture=gesture is not None
    )
    files["README.md"] = text.encode()
    return files


def triton_files(
    folders: Sequence[Path], release: DeepStream, *, form: str, max_batch_size: int
) -> Files:
    """Return a Triton model repository of model folders, with the script that builds its plans."""
    files: Files = {}
    builds = []
    for folder in folders:
        model = _read_model(folder, None, "model")
        files.update(
            triton.repository_files(model, folder, form=form, max_batch_size=max_batch_size)
        )
        if form == "plan":
            onnx = f"onnx/{model.name}.onnx"
            files[f"../{onnx}"] = _fp32_bytes(folder, model)
            plan = f"{server_config.REPOSITORY}/{model.name}/1/model.plan"
            builds.append(guide.Build(model, onnx, plan, "fp16", max_batch_size))
    placed = {
        os.path.normpath(f"{server_config.REPOSITORY}/{name}"): content
        for name, content in files.items()
    }
    command = f"tritonserver --model-repository={server_config.REPOSITORY}"
    placed["run.sh"] = guide.run_script(builds, release, command, needed={}).encode()
    return placed


def write_folder(out: Path, files: Files) -> None:
    """Write files into a new folder. Raises DeployError when it exists and is not empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DeployError(f"{out}: exists and is not empty; name another folder or remove it")
    aside = out.with_name(out.name + ".part")
    try:
        shutil.rmtree(str(aside), ignore_errors=True)
        for name, content in sorted(files.items()):
            path = aside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            if path.suffix == ".sh":
                path.chmod(0o755)
        if out.exists():
            out.rmdir()
        os.replace(str(aside), str(out))
    except OSError as error:
        raise DeployError(f"{out}: cannot be written: {error.strerror}") from None


def _tracker_file(pairs: Sequence[Tuple[str, Any]]) -> str:
    """Return the name of the file that says which tracker it is: its configuration or library."""
    values = dict(pairs)
    return str(values.get("ll-config-file", values["ll-lib-file"])).rsplit("/", 1)[-1]


def _read_model(folder: Path, kind: Optional[str], option: str) -> ModelInfo:
    refuse_blanks(option, str(folder))
    model = read_model_json(folder)
    check_sha256(folder, model)
    refuse_blanks("model name", model.name)
    if kind is not None and model.kind != kind:
        raise DeployError(f"{folder}: is a {model.kind}; {option} takes the folder of a {kind}")
    return model


def _add_detector(
    files: Files,
    notes: List[str],
    builds: List[guide.Build],
    request: Request,
    model: ModelInfo,
) -> app_config.DetectorFile:
    precision = _precision(request, model)
    tensorrt = request.release.tensorrt
    if model.postprocess is not None and model.postprocess.inner_confidence > 0.0:
        notes.append("nvinfer does not know inner_confidence: a forearm may count as a hand")
    if request.engine is not None:
        refuse_blanks("--engine", request.engine)
        notes.append(f"detector: the prebuilt engine {request.engine}")
        return app_config.DetectorFile(precision, None, request.engine, None)
    role = "etlt" if model.is_encrypted else "qdq" if precision == "qdq" else "fp32"
    if role not in model.files:
        raise DeployError(
            f"model {model.name} has no {role} file; it has: {', '.join(model.files)}"
        )
    name = f"models/{model.files[role]}"
    files[name] = (request.model / model.files[role]).read_bytes()
    cache = None
    if precision == "int8":
        cache = f"models/{model.files['calibration']}"
        files[cache] = (request.model / model.files["calibration"]).read_bytes()
    key = _key(model, tensorrt) if role == "etlt" else None
    suffix = "int8" if precision in ("int8", "qdq") else precision
    engine = f"{name}_b1_gpu0_{suffix}.engine"
    notes.append(f"detector: {model.files[role]} as {precision}, TensorRT {tensorrt}")
    if precision == "qdq" and request.release.number < app_config.STRONGLY_TYPED:
        # nvinfer falls back to FP16 without a cache, so trtexec has to build the engine.
        builds.append(guide.Build(model, name, engine, precision, 1))
        notes.append("run.sh builds the Q/DQ engine: nvinfer would make it FP16")
    return app_config.DetectorFile(precision, name, engine, cache, key)


def _precision(request: Request, model: ModelInfo) -> str:
    if request.precision == "auto":
        return "int8" if "calibration" in model.files else "fp16"
    if request.precision == "int8" and "calibration" not in model.files and not request.engine:
        raise DeployError(
            f"model {model.name} has no calibration cache, without which nvinfer takes FP16 "
            "silently; use --precision qdq or fp16"
        )
    tensorrt = parse_number(request.release.tensorrt)
    if request.precision == "qdq" and tensorrt < FIRST_QDQ_TENSORRT:
        raise DeployError(
            f"TensorRT {request.release.tensorrt} of DeepStream {request.release.version} reads "
            "no Q/DQ; use --precision int8 (ONNX and calibration cache)"
        )
    return request.precision


def _key(model: ModelInfo, tensorrt: str) -> str:
    if parse_number(tensorrt) > LAST_ETLT_TENSORRT:
        raise DeployError(
            f"model {model.name} is encrypted, and TensorRT {tensorrt} has no decoder for etlt; "
            "export it as ONNX"
        )
    key = os.environ.get(KEY_VARIABLE)
    if not key:
        raise DeployError(f"model {model.name} is encrypted; set its key in {KEY_VARIABLE}")
    return key


def _add_gesture(
    files: Files,
    notes: List[str],
    builds: List[guide.Build],
    request: Request,
    model: ModelInfo,
) -> Dict[str, str]:
    """Add the classifier; return the plans that only a person can make, and the guide to each."""
    needed = {}
    folder = request.gesture or Path()
    repository = server_config.REPOSITORY
    batch = server_config.MAX_HANDS
    placed = triton.repository_files(model, folder, form=request.form, max_batch_size=batch)
    files.update({f"{repository}/{name}": content for name, content in placed.items()})
    plan = f"{repository}/{model.name}/1/model.plan"
    if model.is_encrypted:
        guide_name = model.files.get("convert", model.files["etlt"])
        for name in {model.files["etlt"], guide_name}:
            files[f"models/{name}"] = (folder / name).read_bytes()
        needed[plan] = f"models/{guide_name}"
        notes.append(f"gestures: encrypted; models/{guide_name} says how to make {plan}")
    elif request.form == "plan":
        onnx = f"models/{model.files['fp32']}" if "fp32" in model.files else ""
        files[onnx] = _fp32_bytes(folder, model)
        builds.append(guide.Build(model, onnx, plan, "fp16", batch))
        notes.append(f"gestures: {model.name} in Triton, a TensorRT plan that run.sh builds")
    else:
        notes.append(f"gestures: {model.name} in Triton's ONNX Runtime on the CPU")
    labels = ";".join(model.classes) + "\n"
    files[server_config.LABELS_FILE] = labels.encode()
    release = request.release
    text = server_config.gesture_config(model, release, form="label")
    files[app_config.GESTURE_FILE] = text.encode()
    files[TENSOR_FILE] = server_config.gesture_config(model, release, form="tensor").encode()
    files[f"models/gesture_{FILE_NAME}"] = (folder / FILE_NAME).read_bytes()
    return needed


def _fp32_bytes(folder: Path, model: ModelInfo) -> bytes:
    if "fp32" not in model.files:
        raise DeployError(
            f"model {model.name} has no fp32 ONNX file; it has: {sorted(model.files)}"
        )
    return (folder / model.files["fp32"]).read_bytes()


def _margin_json(request: Request, uri: str, *, is_live: bool) -> bytes:
    document = {
        "version": request.release.version,
        "source": request.source,
        "uri": uri,
        "is_live": is_live,
        "frame_wh": list(app_config.FRAME_WH),
        "sinks": list(request.sinks),
    }
    return (json.dumps(document, indent=1) + "\n").encode()
