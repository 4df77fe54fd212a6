import json
import os

import numpy as np
import pytest

from deploy.core.cluster import CLUSTERS, CONFIDENCES, Postprocess
from deploy.core.errors import DeployError
from deploy.core.grid import Grid
from deploy.core.model_json import (
    ModelInfo,
    add_sha256,
    check_sha256,
    load_schema,
    parse_model_json,
    read_model_json,
    to_document,
    write_model_json,
)
from deploy.core.preprocess import COLORS, RESIZES, Preprocess
from deploy.core.roi import BORDERS, MODES, RoiRule

DETECTOR = ModelInfo(
    kind="detector",
    name="hand-detector",
    files={"fp32": "detector.onnx", "qdq": "detector_qdq.onnx"},
    input_name="input_1",
    input_shape=(3, 192, 320),
    outputs={"output_cov/Sigmoid": (1, 12, 20), "output_bbox/BiasAdd": (4, 12, 20)},
    preprocess=Preprocess(),
    classes=("hand",),
    grid=Grid(),
    postprocess=Postprocess("nms", 0.05, 0.3, 1.0, 0.5, "max", 0.5, 4.0),
    versions={"torch": "2.13.0"},
)
CLASSIFIER = ModelInfo(
    kind="classifier",
    name="gesture-classifier",
    files={"fp32": "gesture.onnx"},
    input_name="input_1",
    input_shape=(3, 160, 160),
    outputs={"activation_18": (6,)},
    preprocess=Preprocess(color="bgr", scale=1.0, offset=(103.9, 116.8, 123.7)),
    classes=("thumbs_up", "fist", "stop", "ok", "two", "random"),
    roi=RoiRule(),
)


def write_folder(folder, info):
    for name in info.files.values():
        (folder / name).write_bytes(name.encode())
    info = add_sha256(folder, info)
    write_model_json(folder, info)
    return info


def change(folder, edit):
    path = folder / "model.json"
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("info", [DETECTOR, CLASSIFIER])
def test_what_is_written_is_read(tmp_path, info):
    written = write_folder(tmp_path, info)
    assert read_model_json(tmp_path) == written
    check_sha256(tmp_path, written)
    assert written.input_wh == (info.input_shape[2], info.input_shape[1])
    assert [path.name for path in tmp_path.glob("*.part")] == []


def test_equal_info_gives_equal_bytes_whatever_the_order_and_number_types(tmp_path):
    first = write_folder(tmp_path, DETECTOR)
    text = (tmp_path / "model.json").read_bytes()
    other = first._replace(
        outputs=dict(reversed(list(first.outputs.items()))),
        input_shape=tuple(np.array(first.input_shape)),
        grid=Grid(np.int64(16), np.float64(35.0), 0.5),
    )
    write_model_json(tmp_path, other)
    assert (tmp_path / "model.json").read_bytes() == text


def test_a_linked_model_json_is_replaced_not_written_into(tmp_path):
    write_folder(tmp_path, DETECTOR)
    kept = tmp_path / "cache"
    os.link(str(tmp_path / "model.json"), str(kept))
    before = kept.read_bytes()
    write_model_json(tmp_path, DETECTOR._replace(name="other"))
    assert kept.read_bytes() == before


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(schema=2), "schema is 2; this program reads schema 1; take deploy/"),
        (lambda d: d.update(schema="1"), "schema is '1'; this program reads schema 1"),
        (lambda d: d.pop("schema"), "key 'schema' is missing; known keys: schema, kind"),
        (lambda d: d.pop("grid"), "key 'grid' is missing; known keys: grid, postprocess"),
        (
            lambda d: d["postprocess"].pop("eps"),
            "key 'postprocess.eps' is missing; known keys: cl",
        ),
        (lambda d: d.update(epsilon=1), "key 'epsilon' is unknown; known keys: schema, kind"),
        (lambda d: d["grid"].update(stride=0), "grid.stride is 0; expected at least 1"),
        (lambda d: d["preprocess"].update(color="hsv"), "color is 'hsv'; known: rgb, bgr"),
        (
            lambda d: d["files"].update(fp32="../x.onnx"),
            "files.fp32 is '../x.onnx'; expected text",
        ),
        (lambda d: d["input"].update(shape=[3, 192]), "input.shape has 2 entries"),
        (lambda d: d.update(kind="segmenter"), "kind is 'segmenter'; known: detector, classifier"),
    ],
)
def test_a_wrong_document_is_named_in_one_line(tmp_path, edit, message):
    write_folder(tmp_path, DETECTOR)
    change(tmp_path, edit)
    with pytest.raises(DeployError) as caught:
        read_model_json(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path / "model.json") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("roles", "is_encrypted"),
    [
        (("fp32",), False),
        (("torch",), False),
        (("etlt", "convert"), True),
        (("etlt", "convert", "fp32"), False),
        (("etlt", "qdq"), False),
    ],
)
def test_a_model_is_encrypted_where_the_converter_is_the_only_way(roles, is_encrypted):
    info = CLASSIFIER._replace(files={role: role + ".bin" for role in roles})
    assert info.is_encrypted is is_encrypted
    assert parse_model_json(to_document(info), source="x").is_encrypted is is_encrypted


def test_missing_and_unreadable_files_are_named(tmp_path):
    with pytest.raises(DeployError, match="model.json: no such file; expected a model folder"):
        read_model_json(tmp_path)
    write_folder(tmp_path, DETECTOR)
    (tmp_path / "detector_qdq.onnx").unlink()
    with pytest.raises(DeployError, match="lists detector_qdq.onnx, which is not in the folder"):
        read_model_json(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(DeployError, match="model.json: is not JSON"):
        read_model_json(tmp_path)
    (tmp_path / "model.json").write_text("[]")
    with pytest.raises(DeployError, match="expected object"):
        read_model_json(tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    info = write_folder(tmp_path, DETECTOR)
    (tmp_path / "detector.onnx").write_bytes(b"other")
    check_sha256(tmp_path, info, roles=["qdq"])
    with pytest.raises(DeployError, match=r"detector.onnx: sha256 is d9298a10d1b0\.\.\., model"):
        check_sha256(tmp_path, info)
    with pytest.raises(DeployError, match="says none"):
        check_sha256(tmp_path, info._replace(sha256={}))
    (tmp_path / "detector.onnx").unlink()
    with pytest.raises(DeployError, match="cannot be read"):
        check_sha256(tmp_path, info)


def test_writing_what_does_not_fit_is_a_bug(tmp_path):
    with pytest.raises(ValueError, match="key 'grid' is missing"):
        write_model_json(tmp_path, DETECTOR._replace(grid=None))
    assert list(tmp_path.iterdir()) == []


def test_schema_and_code_know_the_same_words():
    known = load_schema()["properties"]
    fields = known["postprocess"]["properties"]
    assert tuple(fields) == Postprocess._fields
    assert tuple(fields["cluster"]["enum"]) == CLUSTERS
    assert tuple(fields["confidence"]["enum"]) == CONFIDENCES
    assert tuple(known["grid"]["properties"]) == Grid._fields
    assert tuple(known["preprocess"]["properties"]) == Preprocess._fields
    assert tuple(known["preprocess"]["properties"]["resize"]["enum"]) == RESIZES
    assert tuple(known["preprocess"]["properties"]["color"]["enum"]) == COLORS
    assert tuple(known["roi"]["properties"]) == RoiRule._fields
    assert tuple(known["roi"]["properties"]["mode"]["enum"]) == MODES
    assert tuple(known["roi"]["properties"]["border"]["enum"]) == BORDERS


@pytest.mark.parametrize("info", [DETECTOR, CLASSIFIER])
def test_documents_fit_the_schema_for_jsonschema_too(info):
    jsonschema = pytest.importorskip("jsonschema")
    assert list(jsonschema.Draft7Validator(load_schema()).iter_errors(to_document(info))) == []
