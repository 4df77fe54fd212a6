"""How an engine is made of an encrypted GestureNet: the converter's command for each JetPack.

NVIDIA's converter decrypts and builds in one step, on the device. It exists for TensorRT 7.1
(tlt-converter) and 8.0 to 8.5 (tao-converter), not for later ones. Pure: values in, text out. The
key stands in the commands as an environment variable only.
"""

from enum import Enum
from typing import NamedTuple

from stages.gesturenet.published import INPUT_NAME, INPUT_SHAPE, OUTPUT_NAME

ETLT = "gesturenet.etlt"
ENGINE = "gesturenet.engine"
GUIDE = "convert.md"
KEY_VARIABLE = "NGC_MODEL_KEY"
MAX_BATCH = 2  # hands of a frame; the demo's profile


class Converter(Enum):
    """The program that reads .etlt files."""

    TLT = "tlt-converter"
    TAO = "tao-converter"


class Graph(Enum):
    """What is inside an .etlt file; the converter wants other options for each."""

    ONNX = "onnx"
    UFF = "uff"


class Generation(NamedTuple):
    """JetPacks with one TensorRT, the converter that NVIDIA made for it, if any, and its place."""

    jetpack: str
    tensorrt: str
    converter: Converter | None
    source: str = ""


GENERATIONS = (
    Generation("4.4", "7.1", Converter.TLT, "developer.nvidia.com/cuda102-trt71-jp44"),
    Generation("4.5", "7.1", Converter.TLT, "developer.nvidia.com/cuda102-trt71-jp45"),
    Generation("4.6", "8.0", Converter.TAO, "NVIDIA's build for TensorRT 8.0"),
    Generation("4.6.1 to 4.6.6", "8.2", Converter.TAO, "NVIDIA's build for TensorRT 8.2"),
    Generation("5.0", "8.4", Converter.TAO, "NVIDIA's build for TensorRT 8.4"),
    Generation("5.1", "8.5", Converter.TAO, "NVIDIA's build for TensorRT 8.5"),
    Generation("6.0", "8.6", None),
    Generation("6.1, 6.2", "10.3", None),
    Generation("7.0, 7.1", "10.13", None),
    Generation("7.2", "10.16", None),
    Generation("7.2.2 and later with TensorRT 11", "11.4", None),
)
NO_CONVERTER = "cannot be converted here"


def converter_command(converter: Converter, graph: Graph) -> str:
    """Return the command line, to be typed in the model's folder.

    ONNX inside: an optimization profile of batches 1, 1 and MAX_BATCH, as the demo's README has
    it; UFF inside: input size and output name, as for the demo's detector.
    """
    size = "x".join(str(side) for side in INPUT_SHAPE)
    shapes = {
        Graph.ONNX: f"-p {INPUT_NAME},1x{size},1x{size},{MAX_BATCH}x{size}",
        Graph.UFF: f"-d {size.replace('x', ',')} -o {OUTPUT_NAME} -m {MAX_BATCH}",
    }
    return f'./{converter.value} -k "${KEY_VARIABLE}" -t fp16 {shapes[graph]} -e {ENGINE} {ETLT}'


def support_lines() -> list[str]:
    """Return where GestureNet can and cannot run, one line each."""
    groups: dict[Converter | None, list[str]] = {}
    for row in GENERATIONS:
        groups.setdefault(row.converter, []).append(row.jetpack)
    can = "; ".join(
        f"{', '.join(jetpacks)} with {converter.value}"
        for converter, jetpacks in groups.items()
        if converter is not None
    )
    return [
        f"can be converted, on the device, on JetPack {can}: {GUIDE} has the commands",
        f"cannot be converted on JetPack {', '.join(groups[None])}: NVIDIA made no converter for "
        "their TensorRT; use gesture=open there",
    ]


def render_guide(version: str, graph: Graph) -> str:
    """Return the text of convert.md for a version of GestureNet."""
    rows = [f"| {row.jetpack} | {row.tensorrt} | {_how(row)} |" for row in GENERATIONS]
    commands = [
        f"{converter.value} ({', '.join(_jetpacks(converter))}):\n\n"
        f"    {converter_command(converter, graph)}"
        for converter in Converter
    ]
    can, cannot = support_lines()
    parts = [
        f"# An engine of GestureNet ({version})",
        f"`{ETLT}` is NVIDIA's, encrypted, and under NVIDIA's licence: do not publish it. Only "
        "NVIDIA's converter reads it. Run the converter on the device itself: an engine fits the "
        "GPU and the TensorRT that built it.",
        f"- GestureNet {can}.\n- GestureNet {cannot}.",
        "| JetPack | TensorRT | converter |\n|---|---|---|\n" + "\n".join(rows),
        "The key is on the model's page in NGC. Type it when this asks, so that no file and no "
        "history keeps it; then run the command in this folder, with the converter beside it:",
        f"    read -rs {KEY_VARIABLE}",
        *commands,
        f"`{ENGINE}` is for DeepStream and Triton as well; `python3 -m deploy.build --model` with "
        "this folder takes it in for `deploy.run`. `model.json` says how the network is fed and "
        "read.",
        f'Where it says "{NO_CONVERTER}": decrypt the file to ONNX on another machine, with '
        "NVIDIA's tools (tao_toolkit_recipes, tao_forum_faq/FAQ.md), and build with trtexec; or "
        "use this project's own classifier, `gesture=open`, which needs no conversion.",
    ]
    return "\n\n".join(parts) + "\n"


def _how(row: Generation) -> str:
    return NO_CONVERTER if row.converter is None else f"{row.converter.value}, {row.source}"


def _jetpacks(converter: Converter) -> list[str]:
    return [f"JetPack {row.jetpack}" for row in GENERATIONS if row.converter is converter]
