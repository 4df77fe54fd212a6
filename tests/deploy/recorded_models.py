"""The model files that the recorded TensorRT parses and runs.

They run in ONNX Runtime, or, where that is not installed, as the NumPy model that a file of the
bytes `numpy:detector` or `numpy:classifier` stands for.
"""

from tests.deploy import tiny_models

NUMPY_MODELS = {
    b"numpy:detector": (tiny_models.detector_info, tiny_models.detect),
    b"numpy:classifier": (tiny_models.classifier_info, tiny_models.classify),
}


def read_tensors(content):
    """Return a file's input and outputs, (name, shape with -1), and its convolutions' inputs."""
    if content in NUMPY_MODELS:
        info = NUMPY_MODELS[content][0]()
        outputs = [(name, (-1,) + tuple(shape)) for name, shape in info.outputs.items()]
        return (info.input_name, (-1,) + tuple(info.input_shape)), outputs, [info.input_name]
    import onnx

    graph = onnx.load_from_string(content).graph

    def entry(value):
        sizes = value.type.tensor_type.shape.dim
        return value.name, tuple(size.dim_value or -1 for size in sizes)

    rounded = [node.input[0] for node in graph.node if node.op_type == "Conv"]
    return entry(graph.input[0]), [entry(value) for value in graph.output], rounded


def run_file(content, batch):
    """Return the outputs of a file by name."""
    if content in NUMPY_MODELS:
        return NUMPY_MODELS[content][1](batch)
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: batch})))
