"""nvinferserver's file for the gesture classifier, from model.json.

Two forms: "label" for deepstream-app, which draws the class's name; "tensor" for the margin
application, which smooths the probabilities itself. "tensor" is no classifier to nvinferserver,
and so every hand of every frame is inferred: results are not cached by track.
"""

from typing import Any, List, Tuple

from deploy.core.model_json import ModelInfo
from deploy.core.smoother import DEFAULT_RULE
from deploy.deepstream.app_config import (
    DETECTOR_ID,
    FRAME_WH,
    GESTURE_ID,
    padding_flags,
)
from deploy.deepstream.pbtxt import Word, write_message
from deploy.deepstream.versions import DeepStream

Message = List[Tuple[str, Any]]

LABELS_FILE = "labels_gesture.txt"
REPOSITORY = "triton_model_repo"
MAX_HANDS = 2
# The hardware scaler of Jetsons refuses smaller pictures.
SMALLEST = 16
# From here on "triton" replaces "trt_is", and classifiers have a type.
TRITON_FIELD = (6, 0)
FORMATS = {"rgb": "IMAGE_FORMAT_RGB", "bgr": "IMAGE_FORMAT_BGR"}


def gesture_config(model: ModelInfo, release: DeepStream, *, form: str) -> str:
    """Return the file; form is "label" or "tensor". Raises DeployError as padding_flags does."""
    is_modern = release.number >= TRITON_FIELD
    infer: Message = [
        ("unique_id", GESTURE_ID),
        ("gpu_ids", [0]),
        ("max_batch_size", MAX_HANDS),
        ("backend", _backend(model, form, is_modern=is_modern)),
        ("preprocess", _preprocess(model, release, form)),
        ("postprocess", _postprocess(form)),
    ]
    control: Message = [
        ("process_mode", Word("PROCESS_MODE_CLIP_OBJECTS")),
        ("operate_on_gie_id", DETECTOR_ID),
        ("operate_on_class_ids", [0]),
        ("interval", 0),
        ("async_mode", False),
        (
            "object_control",
            [("bbox_filter", [("min_width", SMALLEST), ("min_height", SMALLEST)])],
        ),
    ]
    document: Message = [("infer_config", infer), ("input_control", control)]
    if form == "tensor":
        document.append(("output_control", [("output_tensor_meta", True)]))
    elif is_modern:
        document.append(("output_control", [("classifier_type", "gesture")]))
    return f"# {model.name} cut out of frames of {FRAME_WH[0]}x{FRAME_WH[1]}\n" + write_message(
        document
    )


def _backend(model: ModelInfo, form: str, *, is_modern: bool) -> Message:
    repository: Message = [("root", REPOSITORY), ("strict_model_config", True)]
    server: Message = [("model_name", model.name), ("version", -1), ("model_repo", repository)]
    message: Message = [
        ("inputs", [("name", model.input_name), ("dims", list(model.input_shape))])
    ]
    message += [("outputs", [("name", name)]) for name in model.outputs]
    message.append(("triton" if is_modern else "trt_is", server))
    if is_modern and form == "tensor":
        # The probe reads the probabilities on the CPU.
        message.append(("output_mem_type", Word("MEMORY_TYPE_CPU")))
    return message


def _preprocess(model: ModelInfo, release: DeepStream, form: str) -> Message:
    scale = model.preprocess
    padding = padding_flags(scale, release)
    if form == "tensor" and model.roi is not None and model.roi.border == "pad":
        padding = padding_flags(scale._replace(resize=border_resize(release)), release)
    return [
        ("network_format", Word(FORMATS[scale.color])),
        ("tensor_order", Word("TENSOR_ORDER_LINEAR")),
        ("tensor_name", model.input_name),
        ("frame_scaling_hw", Word("FRAME_SCALING_HW_DEFAULT")),
        ("frame_scaling_filter", 1),
        (
            "normalize",
            [
                ("scale_factor", scale.scale),
                ("channel_offsets", [float(value) for value in scale.offset]),
            ],
        ),
    ] + sorted(padding.items())


def border_resize(release: DeepStream) -> str:
    """Return the resize that keeps the aspect of a square region which the border has cut."""
    return "letterbox" if release.number >= TRITON_FIELD else "letterbox_topleft"


def _postprocess(form: str) -> Message:
    if form == "tensor":
        return [("other", [])]
    classification = [("threshold", DEFAULT_RULE.enter_threshold)]
    return [("labelfile_path", LABELS_FILE), ("classification", classification)]
