"""Which models and which runtime are taken without being told."""

import json

import pytest

from deploy.core.errors import DeployError
from deploy.core.model_json import write_model_json
from deploy.machine import describe_machine, fingerprint
from deploy.models import Choice, choose_engine, find_classifier, find_detector
from tests.deploy.tiny_models import detector_info

SHA256 = {"detector.onnx": "1" * 64, "detector_qdq.onnx": "2" * 64}


def write_detector(root, place):
    folder = root / place
    folder.mkdir(parents=True)
    info = detector_info(sha256=SHA256)
    for name in info.files.values():
        (folder / name).write_bytes(b"")
    write_model_json(folder, info)
    return folder


def write_choice(path, **changes):
    document = {
        "schema": 1,
        "fingerprint": fingerprint(describe_machine()),
        "sha256": SHA256,
        "choice": {"runtime": "onnxruntime", "precision": "fp32"},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(document, **changes)))


@pytest.mark.parametrize("place", ["models/detector", "models/export"])
def test_detector_is_found_in_a_bundle_and_in_the_repository(tmp_path, place):
    folder = write_detector(tmp_path, place)
    assert find_detector(None, root=tmp_path) == folder
    assert find_detector("elsewhere", root=tmp_path).name == "elsewhere"


def test_missing_detector_names_both_places(tmp_path):
    with pytest.raises(DeployError, match=r"models/detector nor .*models/export.*--detector"):
        find_detector(None, root=tmp_path)


def test_missing_classifier_is_none(tmp_path):
    assert find_classifier(None, root=tmp_path) is None
    assert find_classifier("elsewhere", root=tmp_path).name == "elsewhere"


@pytest.mark.parametrize("name", ["engines.json", "results/engines/this-machine.json"])
def test_recorded_choice_counts_on_the_machine_that_measured_it(tmp_path, name):
    detector = write_detector(tmp_path, "models/detector")
    write_choice(tmp_path / name)
    chosen = choose_engine(detector, runtime="auto", precision="auto", root=tmp_path)
    assert chosen == Choice("onnxruntime", "fp32")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"fingerprint": "0" * 16}, "another machine"),
        ({"sha256": {}}, "another model"),
        ({"schema": 2}, "schema 2"),
    ],
)
def test_recorded_choice_of_anything_else_is_left_out_with_a_reason(
    tmp_path, changes, word, caplog
):
    detector = write_detector(tmp_path, "models/detector")
    write_choice(tmp_path / "engines.json", **changes)
    with caplog.at_level("INFO"):
        chosen = choose_engine(detector, runtime="auto", precision="auto", root=tmp_path)
    assert chosen == Choice("auto", "auto")
    assert word in caplog.text


@pytest.mark.parametrize(("runtime", "precision"), [("openvino", "auto"), ("auto", "fp32")])
def test_what_is_asked_for_overrules_the_record(tmp_path, runtime, precision):
    detector = write_detector(tmp_path, "models/detector")
    write_choice(tmp_path / "engines.json")
    chosen = choose_engine(detector, runtime=runtime, precision=precision, root=tmp_path)
    assert chosen == Choice(runtime, precision)


def test_no_record_leaves_it_to_the_engine(tmp_path):
    detector = write_detector(tmp_path, "models/detector")
    chosen = choose_engine(detector, runtime="auto", precision="auto", root=tmp_path)
    assert chosen == Choice("auto", "auto")


def test_damaged_record_is_one_line(tmp_path):
    detector = write_detector(tmp_path, "models/detector")
    (tmp_path / "engines.json").write_text("{")
    with pytest.raises(DeployError, match=r"engines\.json: is not JSON"):
        choose_engine(detector, runtime="auto", precision="auto", root=tmp_path)
