"""Converter lines against a table written by hand from NVIDIA's documentation."""

import pytest

from stages.gesturenet.converting import (
    GENERATIONS,
    NO_CONVERTER,
    Converter,
    Graph,
    converter_command,
    render_guide,
    support_lines,
)

PROFILE = "-p input_1,1x3x160x160,1x3x160x160,2x3x160x160"
END = "-e gesturenet.engine gesturenet.etlt"
KEY = '-k "$NGC_MODEL_KEY" -t fp16'


@pytest.mark.parametrize(
    ("jetpack", "tensorrt", "converter"),
    [
        ("4.4", "7.1", "tlt-converter"),
        ("4.5", "7.1", "tlt-converter"),
        ("4.6", "8.0", "tao-converter"),
        ("4.6.1 to 4.6.6", "8.2", "tao-converter"),
        ("5.0", "8.4", "tao-converter"),
        ("5.1", "8.5", "tao-converter"),
        ("6.0", "8.6", None),
        ("6.1, 6.2", "10.3", None),
        ("7.0, 7.1", "10.13", None),
        ("7.2", "10.16", None),
        ("7.2.2 and later with TensorRT 11", "11.4", None),
    ],
)
def test_each_jetpack_has_its_converter_or_none(
    jetpack: str, tensorrt: str, converter: str | None
) -> None:
    row = next(row for row in GENERATIONS if row.jetpack == jetpack)
    assert row.tensorrt == tensorrt
    assert (row.converter and row.converter.value) == converter
    line = f"| {jetpack} | {tensorrt} | {converter or NO_CONVERTER}"
    assert line in render_guide("deployable_v1.0", Graph.ONNX)


@pytest.mark.parametrize(
    ("converter", "graph", "expected"),
    [
        (Converter.TLT, Graph.ONNX, f"./tlt-converter {KEY} {PROFILE} {END}"),
        (Converter.TAO, Graph.ONNX, f"./tao-converter {KEY} {PROFILE} {END}"),
        (
            Converter.TAO,
            Graph.UFF,
            f"./tao-converter {KEY} -d 3,160,160 -o activation_18 -m 2 {END}",
        ),
    ],
)
def test_commands_are_those_of_nvidias_documents(
    converter: Converter, graph: Graph, expected: str
) -> None:
    assert converter_command(converter, graph) == expected
    if graph is Graph.ONNX:
        assert f"    {expected}\n" in render_guide("deployable_v2.0.2", graph)


def test_where_it_can_and_cannot_run_is_said_plainly() -> None:
    can, cannot = support_lines()
    assert (
        "on JetPack 4.4, 4.5 with tlt-converter; 4.6, 4.6.1 to 4.6.6, 5.0, 5.1 with tao-converter"
    ) in can
    assert "cannot be converted on JetPack 6.0, 6.1, 6.2, 7.0, 7.1, 7.2, 7.2.2 and later" in cannot
    guide = render_guide("deployable_v2.0.2", Graph.ONNX)
    assert can in guide
    assert cannot in guide


def test_the_guide_never_holds_a_key() -> None:
    guide = render_guide("deployable_v1.0", Graph.ONNX)
    assert guide.count('-k "$NGC_MODEL_KEY" ') == guide.count("-k ") == 2
    assert "nvidia_tlt" not in guide
    assert "tlt_encode" not in guide
