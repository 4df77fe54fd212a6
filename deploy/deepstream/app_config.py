"""The files of deepstream-app and of nvinfer for the hand detector, from model.json.

nvinfer reads a tensor as scale * (pixel - offset), as model.json does; its built-in parser of
DetectNet_v2 has NVIDIA's constants (35, 0.5) compiled in, so a model with others is refused.
Source: gstnvinfer_property_parser.cpp, nvdsinfer_context_impl.cpp; github.com/NVIDIA/DeepStream.
"""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from deploy.core.errors import DeployError
from deploy.core.model_json import ModelInfo
from deploy.core.preprocess import Preprocess
from deploy.deepstream.endpoints import Pairs, Source, sink_group
from deploy.deepstream.versions import DeepStream

Groups = List[Tuple[str, Pairs]]

DETECTOR_ID, GESTURE_ID = 1, 4
DETECTOR_FILE, GESTURE_FILE = "config_infer_detector.txt", "config_infer_gesture.txt"
LABELS_FILE = "labels_detector.txt"
LIBRARIES = "/opt/nvidia/deepstream/deepstream/lib"
TRACKER_CONFIGS = "/opt/nvidia/deepstream/deepstream/samples/configs/deepstream-app"
FRAME_WH = (1280, 720)
# NvDCF needs multiples of 32.
TRACKER_WH = (640, 384)
NETWORK_MODES = {"fp32": 0, "int8": 1, "fp16": 2, "qdq": 1}
COLORS = {"rgb": 0, "bgr": 1}
UNIFIED_TRACKER, NVSORT, STRONGLY_TYPED = (6, 0), (6, 2), (9, 1)
SYMMETRIC_PADDING = (6, 0)
NO_BATCH_SWITCH = (6, 3)
NVIDIA_SCALE, NVIDIA_OFFSET = 35.0, 0.5
TRACKERS = {"iou": "IOU", "nvsort": "NvSORT", "nvdcf": "NvDCF_perf"}


class DetectorFile(NamedTuple):
    """What nvinfer loads: paths relative to the folder; key only for an encrypted file."""

    precision: str
    model: Optional[str]
    engine: str
    calibration: Optional[str]
    key: Optional[str] = None


def write_ini(groups: Groups) -> str:
    """Return groups of (key, value) as a GKeyFile."""
    return "\n".join(
        f"[{title}]\n" + "".join(f"{key}={value}\n" for key, value in pairs)
        for title, pairs in groups
    )


def app_groups(
    source: Source, sinks: Sequence[str], release: DeepStream, *, tracker: str, has_gesture: bool
) -> Groups:
    """Return the groups of deepstream-app's file. Raises DeployError as sink_group does."""
    width, height = FRAME_WH
    groups: Groups = [
        ("application", [("enable-perf-measurement", 1), ("perf-measurement-interval-sec", 5)]),
        (
            "tiled-display",
            [("enable", 1), ("rows", 1), ("columns", 1), ("width", width), ("height", height)],
        ),
        ("source0", source.group),
    ]
    groups += [(f"sink{index}", sink_group(uri, release)) for index, uri in enumerate(sinks)]
    groups += [
        ("osd", [("enable", 1), ("border-width", 3), ("text-size", 15)]),
        (
            "streammux",
            [
                ("live-source", int(source.is_live)),
                ("batch-size", 1),
                ("batched-push-timeout", 40000),
                ("width", width),
                ("height", height),
                ("enable-padding", 0),
            ],
        ),
        ("primary-gie", _gie(DETECTOR_ID, DETECTOR_FILE, plugin_type=0)),
        ("tracker", tracker_pairs(tracker, release)),
    ]
    if has_gesture:
        secondary = _gie(GESTURE_ID, GESTURE_FILE, plugin_type=1)
        secondary += [("operate-on-gie-id", DETECTOR_ID), ("operate-on-class-ids", "0;")]
        groups.append(("secondary-gie0", secondary))
    return groups + [("tests", [("file-loop", 0)])]


def tracker_pairs(tracker: str, release: DeepStream) -> Pairs:
    """Return the [tracker] of a release. Raises DeployError for a tracker that it does not have.

    To 5.1 it is NVIDIA's KLT, the only one without a file of its own; from 6.0 one library reads
    which tracker to be from a file of the samples.
    """
    pairs: Pairs = [("enable", 1), ("tracker-width", TRACKER_WH[0])]
    pairs.append(("tracker-height", TRACKER_WH[1]))
    if release.number < UNIFIED_TRACKER:
        known = ["klt"]
        pairs.append(("ll-lib-file", f"{LIBRARIES}/libnvds_mot_klt.so"))
    else:
        known = ["iou", "nvdcf"] + (["nvsort"] if release.number >= NVSORT else [])
    if tracker == "auto":
        tracker = known[0]
    if tracker not in known:
        raise DeployError(
            f"DeepStream {release.version} has no tracker {tracker!r}; known: {', '.join(known)}"
        )
    if release.number >= UNIFIED_TRACKER:
        config = f"config_tracker_{TRACKERS[tracker]}.yml"
        pairs.append(("ll-lib-file", f"{LIBRARIES}/libnvds_nvmultiobjecttracker.so"))
        pairs.append(("ll-config-file", f"{TRACKER_CONFIGS}/{config}"))
    if release.number < NO_BATCH_SWITCH:
        pairs.append(("enable-batch-process", 1))
    return pairs


def detector_groups(model: ModelInfo, file: DetectorFile, release: DeepStream) -> Groups:
    """Return the groups of nvinfer's file. Raises DeployError for what nvinfer cannot express."""
    _check_grid(model)
    channels, height, width = model.input_shape
    properties: Pairs = [("gpu-id", 0), ("gie-unique-id", DETECTOR_ID), ("process-mode", 1)]
    properties += _model_file(file, model, release)
    properties += [
        ("batch-size", 1),
        ("network-type", 0),
        ("infer-dims", f"{channels};{height};{width}"),
        ("net-scale-factor", repr(model.preprocess.scale)),
        ("offsets", ";".join(repr(float(value)) for value in model.preprocess.offset)),
        ("model-color-format", COLORS[model.preprocess.color]),
    ]
    padding = padding_flags(model.preprocess, release)
    properties += [(name.replace("_", "-"), value) for name, value in sorted(padding.items())]
    cluster, attributes = _cluster(model)
    properties += [
        ("interval", 0),
        ("num-detected-classes", len(model.classes)),
        ("labelfile-path", LABELS_FILE),
        ("output-blob-names", ";".join(reversed(model.map_names))),
        ("cluster-mode", cluster),
    ]
    return [("property", properties), ("class-attrs-all", attributes)]


def padding_flags(preprocess: Preprocess, release: DeepStream) -> Dict[str, int]:
    """Return maintain_aspect_ratio and, where it is needed, symmetric_padding.

    Raises DeployError for centred padding before 6.0, which pads on the right and below only.
    """
    if preprocess.resize != "letterbox":
        return {"maintain_aspect_ratio": int(preprocess.resize == "letterbox_topleft")}
    if release.number < SYMMETRIC_PADDING:
        raise DeployError(
            f"model.json says resize letterbox, which DeepStream {release.version} cannot do "
            "(symmetric-padding came with 6.0); train with letterbox_topleft or stretch"
        )
    return {"maintain_aspect_ratio": 1, "symmetric_padding": 1}


def _gie(unique_id: int, file: str, *, plugin_type: int) -> Pairs:
    return [
        ("enable", 1),
        ("plugin-type", plugin_type),
        ("batch-size", 1 if plugin_type == 0 else 2),
        ("gie-unique-id", unique_id),
        ("config-file", file),
    ]


def _model_file(file: DetectorFile, model: ModelInfo, release: DeepStream) -> Pairs:
    pairs: Pairs = []
    if file.key is not None:
        pairs += [("tlt-encoded-model", file.model), ("tlt-model-key", file.key)]
        pairs.append(("uff-input-blob-name", model.input_name))
    elif file.model is not None:
        pairs.append(("onnx-file", file.model))
    pairs += [
        ("model-engine-file", file.engine),
        ("network-mode", NETWORK_MODES[file.precision]),
    ]
    if file.calibration is not None:
        pairs.append(("int8-calib-file", file.calibration))
    if file.precision == "qdq" and release.number >= STRONGLY_TYPED:
        pairs.append(("strongly-typed", 1))
    return pairs


def _cluster(model: ModelInfo) -> Tuple[int, Pairs]:
    """Return cluster-mode and thresholds; of equal effect wherever nvinfer has the same rule.

    nms keeps a cluster's strongest cell, so cells below the operating point can go beforehand.
    """
    rule = model.postprocess
    if rule is None:
        raise DeployError(f"model {model.name} has no postprocess; export the detector again")
    smallest = int(rule.minimum_box_height * FRAME_WH[1] / model.input_shape[1]) + 1
    common: Pairs = [("detected-min-h", smallest)]
    if rule.cluster == "nms":
        if rule.confidence != "max":
            raise DeployError(
                f"postprocess confidence {rule.confidence!r} with nms: nvinfer knows the "
                "strongest cell only; export with postprocess.confidence=max"
            )
        threshold = max(rule.coverage_threshold, rule.confidence_threshold)
        return 2, [
            ("pre-cluster-threshold", threshold),
            ("nms-iou-threshold", rule.iou_threshold),
        ] + common
    pairs: Pairs = [
        ("pre-cluster-threshold", rule.coverage_threshold),
        ("eps", rule.eps),
        ("minBoxes", max(int(rule.min_samples), 1)),
    ]
    name = "dbscan-min-score" if rule.confidence == "sum" else "post-cluster-threshold"
    return 1, pairs + [(name, rule.confidence_threshold)] + common


def _check_grid(model: ModelInfo) -> None:
    grid = model.grid
    if grid is None or (grid.scale, grid.offset) != (NVIDIA_SCALE, NVIDIA_OFFSET):
        raise DeployError(
            f"model {model.name} has grid {grid}; nvinfer's DetectNet_v2 parser has scale "
            f"{NVIDIA_SCALE:g} and offset {NVIDIA_OFFSET:g} built in; export with those"
        )
