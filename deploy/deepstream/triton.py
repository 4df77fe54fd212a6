"""Triton model repositories: NAME/config.pbtxt and NAME/1/model.plan or model.onnx.

Source: model_config.proto and docs/user_guide/model_configuration.md of triton-inference-server.
"""

from pathlib import Path
from typing import Any, Dict, List, Tuple

from deploy.core.errors import DeployError
from deploy.core.model_json import ModelInfo
from deploy.deepstream.pbtxt import Word, write_message

Message = List[Tuple[str, Any]]

PLATFORMS = {"plan": "tensorrt_plan", "onnx": "onnxruntime_onnx"}
FILE_NAMES = {"plan": "model.plan", "onnx": "model.onnx"}
QUEUE_DELAY_US = 500


def model_config(model: ModelInfo, *, form: str, max_batch_size: int) -> str:
    """Return config.pbtxt. form: "plan" (TensorRT, GPU) or "onnx" (ONNX Runtime, CPU).

    max_batch_size: at least 1, and for "plan" no more than the largest of the plan's profile.
    """
    kind = "KIND_GPU" if form == "plan" else "KIND_CPU"
    document: Message = [
        ("name", model.name),
        ("platform", PLATFORMS[form]),
        ("max_batch_size", max_batch_size),
        ("default_model_filename", FILE_NAMES[form]),
        ("input", _tensor(model.input_name, model.input_shape)),
    ]
    document += [("output", _tensor(name, shape)) for name, shape in model.outputs.items()]
    document += [
        ("instance_group", [("kind", Word(kind)), ("count", 1)]),
        ("version_policy", [("latest", [("num_versions", 1)])]),
    ]
    if max_batch_size > 1:
        batching: Message = [("max_queue_delay_microseconds", QUEUE_DELAY_US)]
        document.append(("dynamic_batching", batching))
    return write_message(document + [("model_warmup", _warmup(model))])


def repository_files(
    model: ModelInfo, folder: Path, *, form: str, max_batch_size: int
) -> Dict[str, bytes]:
    """Return the files of one model by their name in the repository.

    A plan is built on the machine that runs it, so "plan" has no model file yet. Raises
    DeployError for "onnx" without an FP32 file.
    """
    config = model_config(model, form=form, max_batch_size=max_batch_size)
    files = {f"{model.name}/config.pbtxt": config.encode()}
    if form == "plan":
        # Triton and git both need the version's folder to hold something.
        files[f"{model.name}/1/README.md"] = b"run.sh or build.sh puts model.plan here\n"
        return files
    if "fp32" not in model.files:
        raise DeployError(
            f"model {model.name} has no ONNX file for Triton's CPU form; render with --form plan"
        )
    files[f"{model.name}/1/model.onnx"] = (folder / model.files["fp32"]).read_bytes()
    return files


def _tensor(name: str, shape: Any) -> Message:
    return [
        ("name", name),
        ("data_type", Word("TYPE_FP32")),
        ("dims", [int(extent) for extent in shape]),
    ]


def _warmup(model: ModelInfo) -> Message:
    tensor: Message = [
        ("data_type", Word("TYPE_FP32")),
        ("dims", [int(extent) for extent in model.input_shape]),
        ("zero_data", True),
    ]
    inputs: Message = [("key", model.input_name), ("value", tensor)]
    return [("name", "zeros"), ("batch_size", 1), ("inputs", inputs)]
