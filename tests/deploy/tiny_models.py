"""Two models small enough to work out by hand, as ONNX folders and as plain NumPy.

The detector finds red: a cell's coverage rises with its mean red, and its box is always 32 pixels
wide and high about the cell's centre. The classifier tells red (fist), yellow (stop), magenta (ok)
and white (random) by the mean of each channel. `draw_frame` draws "hands" that they know.
"""

from pathlib import Path

import numpy as np

from deploy.core.cluster import Postprocess
from deploy.core.grid import Grid
from deploy.core.model_json import ModelInfo, add_sha256, write_model_json
from deploy.core.preprocess import Preprocess
from deploy.core.roi import RoiRule

CLASSES = ("thumbs_up", "fist", "stop", "ok", "two", "random")
BGR = {"fist": (0, 0, 255), "stop": (0, 255, 255), "ok": (255, 0, 255), "random": (255, 255, 255)}

STRIDE = 16
DISTANCES = np.array([8, 8, 24, 24], np.float32) / np.float32(35)
COVERAGE_GAIN, COVERAGE_BIAS = 20.0, -10.0
WEIGHTS = np.zeros((3, 6), np.float32)  # mean red, green, blue -> class
WEIGHTS[:, 1] = (20, -20, -20)
WEIGHTS[:, 2] = (0, 20, -20)
WEIGHTS[:, 3] = (0, -20, 20)
BIASES = np.array([-10, 0, 0, 0, -10, 4], np.float32)
QDQ_SCALE = 1 / 127


def detector_info(**changes):
    info = ModelInfo(
        kind="detector",
        name="tiny-detector",
        files={"fp32": "detector.onnx", "qdq": "detector_qdq.onnx"},
        input_name="input_1",
        input_shape=(3, 96, 160),
        outputs={"output_cov/Sigmoid": (1, 6, 10), "output_bbox/BiasAdd": (4, 6, 10)},
        preprocess=Preprocess(),
        classes=("hand",),
        grid=Grid(),
        postprocess=Postprocess("dbscan", 0.4, 0.7, 1.0, 0.5, "sum", 1.0, 4.0),
        versions={},
    )
    return info._replace(**changes)


def classifier_info(**changes):
    info = ModelInfo(
        kind="classifier",
        name="tiny-classifier",
        files={"fp32": "gesture.onnx"},
        input_name="input_1",
        input_shape=(3, 160, 160),
        outputs={"activation_18": (6,)},
        preprocess=Preprocess(),
        classes=CLASSES,
        roi=RoiRule(),
        versions={},
    )
    return info._replace(**changes)


def write_encrypted(folder):
    """Write a folder as NVIDIA's GestureNet makes it; its bytes are made up."""
    folder = Path(str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gesturenet.etlt").write_bytes(b"\0\0\0\0made up for tests, not NVIDIA's")
    (folder / "convert.md").write_text("made up\n", encoding="utf-8")
    files = {"etlt": "gesturenet.etlt", "convert": "convert.md"}
    info = classifier_info(name="gesturenet", files=files)
    write_model_json(folder, add_sha256(folder, info))
    return folder


def detect(batch):
    """What detector.onnx computes."""
    num, _, height, width = batch.shape
    rows, columns = height // STRIDE, width // STRIDE
    red = batch[:, 0].reshape(num, rows, STRIDE, columns, STRIDE).mean(axis=(2, 4))
    coverage = 1 / (1 + np.exp(-(COVERAGE_GAIN * red + COVERAGE_BIAS)))
    bbox = np.broadcast_to(DISTANCES[:, None, None], (num, 4, rows, columns))
    return {
        "output_cov/Sigmoid": coverage[:, None].astype(np.float32),
        "output_bbox/BiasAdd": np.array(bbox),
    }


def classify(batch):
    """What gesture.onnx computes."""
    logits = batch.mean(axis=(2, 3)).dot(WEIGHTS) + BIASES
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return {"activation_18": (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)}


class NumpyEngine:
    """An engine without a runtime, for tests that need only NumPy."""

    def __init__(self, model, function):
        self.model = model
        self.batch_sizes = []
        self._function = function

    def infer(self, batch):
        self.batch_sizes.append(len(batch))
        return self._function(batch)

    def info(self):
        return {"runtime": "numpy", "precision": "fp32"}


def numpy_detector():
    return NumpyEngine(detector_info(), detect)


def numpy_classifier():
    return NumpyEngine(classifier_info(), classify)


def draw_frame(hands, *, wh=(640, 384), extent=128):
    """A dark frame with squares: hands is a list of (gesture, x_min, y_min)."""
    image = np.full((wh[1], wh[0], 3), 20, np.uint8)
    for gesture, x_min, y_min in hands:
        image[y_min : y_min + extent, x_min : x_min + extent] = BGR[gesture]
    return image


def write_detector(folder):
    """Write the detector as a model folder with an FP32 and a Q/DQ file; needs onnx."""
    folder = Path(str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    _save(folder / "detector.onnx", _detector_graph(quantized=False), opset=11)
    _save(folder / "detector_qdq.onnx", _detector_graph(quantized=True), opset=13)
    write_model_json(folder, add_sha256(folder, detector_info()))
    return folder


def write_classifier(folder):
    """Write the classifier as a model folder; needs onnx."""
    folder = Path(str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    _save(folder / "gesture.onnx", _classifier_graph(), opset=11)
    write_model_json(folder, add_sha256(folder, classifier_info()))
    return folder


def _detector_graph(*, quantized):
    from onnx import helper, numpy_helper

    cover = np.zeros((1, 3, STRIDE, STRIDE), np.float32)
    cover[0, 0] = COVERAGE_GAIN / STRIDE**2
    constants = {
        "cover_weight": cover,
        "cover_bias": np.array([COVERAGE_BIAS], np.float32),
        "box_weight": np.zeros((4, 3, STRIDE, STRIDE), np.float32),
        "box_bias": DISTANCES,
    }
    nodes, source = [], "input_1"
    if quantized:
        constants["scale"] = np.array(QDQ_SCALE, np.float32)
        constants["zero"] = np.array(0, np.int8)
        nodes.append(helper.make_node("QuantizeLinear", [source, "scale", "zero"], ["codes"]))
        nodes.append(helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["levels"]))
        source = "levels"
    shape = {"kernel_shape": [STRIDE, STRIDE], "strides": [STRIDE, STRIDE]}
    nodes += [
        helper.make_node("Conv", [source, "cover_weight", "cover_bias"], ["logits"], **shape),
        helper.make_node("Sigmoid", ["logits"], ["output_cov/Sigmoid"]),
        helper.make_node("Conv", [source, "box_weight", "box_bias"], ["boxes"], **shape),
        helper.make_node("Identity", ["boxes"], ["output_bbox/BiasAdd"]),
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return nodes, initializers, detector_info()


def _classifier_graph():
    from onnx import helper, numpy_helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["input_1"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["means"]),
        helper.make_node("Gemm", ["means", "weights", "biases"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["activation_18"], axis=1),
    ]
    initializers = [
        numpy_helper.from_array(WEIGHTS, "weights"),
        numpy_helper.from_array(BIASES, "biases"),
    ]
    return nodes, initializers, classifier_info()


def _save(path, graph, *, opset):
    import onnx
    from onnx import TensorProto, helper

    nodes, initializers, info = graph

    def value(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"] + list(shape))

    inputs = [value(info.input_name, info.input_shape)]
    outputs = [value(name, shape) for name, shape in info.outputs.items()]
    proto = helper.make_graph(nodes, info.name, inputs, outputs, initializers)
    imports = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(proto, opset_imports=imports, ir_version=7), str(path))
