"""Model folders of the TAO backend, under the same contract as the open backend's.

models/{train,prune,retrain}/ hold detector.hdf5 or detector.tlt, from TAO 5 on detector.onnx too,
experiment.txt (the spec), tao.json (what the next stage must know) and model.json.
models/export/ holds detector.onnx or detector.etlt, calibration_qat.bin and model.json.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from deploy.core.cluster import Postprocess
from deploy.core.model_json import read_model_json, write_model_json
from stages._files import write_json
from stages.datasets.trees import link_or_copy
from stages.detectnet.calibration_cache import format_cache
from stages.detectnet.model_info import BBOX, COVERAGE, INPUT, describe_detector
from stages.tao.errors import TaoError
from stages.tao.generations import Generation, find_generation

if TYPE_CHECKING:
    import onnx

STEM = "detector"
ONNX = f"{STEM}.onnx"
CACHE = "calibration_qat.bin"
SPEC = "experiment.txt"
FACTS = "tao.json"
PORT = ":0"  # TensorFlow's mark of an operation's first output


class ModelFacts(NamedTuple):
    """What the stages after training must know of a network."""

    generation: str
    num_layers: int
    input_wh: tuple[int, int]
    all_projections: bool


def write_model(
    folder: Path,
    facts: ModelFacts,
    *,
    model: Path,
    exported: Path | None,
    spec: str,
    postprocess: Postprocess,
) -> None:
    """Fill an empty folder with a trained or pruned network.

    exported: its .onnx as TAO wrote it, or None for the encrypted generations.
    """
    generation = find_generation(facts.generation)
    files = {"tao": f"{STEM}{generation.model_suffix}"}
    link_or_copy(model, folder / files["tao"])
    if exported is not None:
        files["fp32"] = ONNX
        write_normalized(exported, folder / ONNX, input_wh=facts.input_wh)
    (folder / SPEC).write_text(spec)
    write_json(folder / FACTS, facts._asdict())
    _describe(folder, facts.input_wh, files, postprocess, generation)


def write_exported(
    folder: Path, facts: ModelFacts, *, exported: Path, cache: str, postprocess: Postprocess
) -> None:
    """Fill an empty folder with an exported network and its calibration cache."""
    generation = find_generation(facts.generation)
    if generation.is_open:
        files = {"fp32": ONNX, "calibration": CACHE}
        write_normalized(exported, folder / ONNX, input_wh=facts.input_wh)
    else:
        files = {"etlt": f"{STEM}{generation.export_suffix}", "calibration": CACHE}
        link_or_copy(exported, folder / files["etlt"])
    (folder / CACHE).write_text(cache, encoding="ascii")
    _describe(folder, facts.input_wh, files, postprocess, generation)


def read_facts(folder: Path, generation: str) -> ModelFacts:
    """Read tao.json. Raises TaoError when the folder is not of this generation of TAO."""
    try:
        content = json.loads((folder / FACTS).read_text())
        content["input_wh"] = tuple(content["input_wh"])
        facts = ModelFacts(**content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TaoError(
            f"{folder} is no model folder of the TAO backend ({type(error).__name__}); run the "
            f"stage that writes it again: dvc repro {folder.name}"
        ) from error
    if facts.generation != generation:
        raise TaoError(
            f"{folder} was made by {facts.generation}, backend.tao.generation is {generation}; "
            f"run the stage that writes it again: dvc repro {folder.name}"
        )
    return facts


def model_file(folder: Path) -> Path:
    """Return the place of the network's .hdf5 or .tlt."""
    return folder / read_model_json(folder).files["tao"]


def write_normalized(source: Path, target: Path, *, input_wh: tuple[int, int]) -> None:
    """Write an ONNX file of TAO with the contract's tensor names, without ":0".

    Raises TaoError for another set of tensors or another size than the contract's.
    """
    import onnx

    try:
        model = onnx.load(str(source))
    except Exception as error:  # protobuf's DecodeError has no public base class
        raise TaoError(f"{source} is no ONNX file ({type(error).__name__})") from error
    _rename(model)
    width, height = input_wh
    wanted = {
        INPUT: (3, height, width),
        COVERAGE: (1, height // 16, width // 16),
        BBOX: (4, height // 16, width // 16),
    }
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    ports = [port for port in (*graph.input, *graph.output) if port.name not in constants]
    seen = {port.name: _shape(port) for port in ports}
    fits = seen.keys() == wanted.keys() and all(
        len(seen[name]) == 4
        and all(side in (None, want) for side, want in zip(seen[name][1:], shape, strict=True))
        for name, shape in wanted.items()
    )
    if not fits:
        raise TaoError(
            f"{source.name} has the tensors {seen}, expected {wanted} behind a batch axis; is it "
            "a DetectNet_v2 of one class, of this input size?"
        )
    onnx.save(model, str(target))


def count_parameters(path: Path) -> int:
    """Count the numbers in the weights of an ONNX file."""
    import onnx

    return sum(
        math.prod(tensor.dims)
        for tensor in onnx.load(str(path)).graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    )


def render_cache(ranges: Path, *, version: int) -> str:
    """Return the calibration cache of TAO's JSON of ranges, under the contract's tensor names.

    version: TensorRT's number. Raises TaoError when the file holds something else.
    """
    try:
        scales: Mapping[str, float] = json.loads(ranges.read_text())["tensor_scales"]
        # A tensor that is 0 throughout needs no range, and TensorRT takes none of 0.
        named = {_plain(name): float(value) for name, value in scales.items() if value}
        if not named:
            raise ValueError("no range")
        return format_cache(named, version=version)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TaoError(
            f"{ranges.name} holds no ranges of a quantized network ({error}); export starts from "
            "models/retrain: dvc repro retrain"
        ) from error


def _describe(
    folder: Path,
    input_wh: tuple[int, int],
    files: Mapping[str, str],
    postprocess: Postprocess,
    generation: Generation,
) -> None:
    info = describe_detector(
        folder,
        input_wh=input_wh,
        files=files,
        postprocess=postprocess,
        versions={"tao": generation.name},
    )
    write_model_json(folder, info)


def _rename(model: "onnx.ModelProto") -> None:
    """Give input and outputs the contract's names, everywhere in the graph; in place."""
    graph = model.graph
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [_plain(name) for name in names]
    for port in (*graph.input, *graph.output, *graph.value_info):
        port.name = _plain(port.name)


def _plain(name: str) -> str:
    """Strip the mark from the contract's names; inner tensors keep what their ranges refer to."""
    bare = name.removesuffix(PORT)
    return bare if bare in (INPUT, COVERAGE, BBOX) else name


def _shape(port: "onnx.ValueInfoProto") -> tuple[int | None, ...]:
    dims = port.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
