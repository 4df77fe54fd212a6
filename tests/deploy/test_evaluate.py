import contextlib
import json

import pytest

from deploy import evaluate
from deploy.core.errors import DeployError
from deploy.core.model_json import add_sha256, write_model_json
from tests.deploy.kitti_folder import write_kitti_folder
from tests.deploy.tiny_models import detector_info, numpy_detector


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A KITTI folder, and a model folder whose engine is NumPy."""
    write_kitti_folder(tmp_path)
    (tmp_path / "model").mkdir()
    for name in detector_info().files.values():
        (tmp_path / "model" / name).write_bytes(name.encode())
    info = add_sha256(tmp_path / "model", detector_info())
    write_model_json(tmp_path / "model", info)

    @contextlib.contextmanager
    def open_numpy(folder, *, runtime, precision):
        assert (runtime, precision) == ("auto", "auto")
        yield numpy_detector()

    monkeypatch.setattr(evaluate, "open_engine", open_numpy)
    return tmp_path


def command(place, *more):
    options = ["--model", "model", "--images", "images", "--labels", "labels"]
    return [str(place / text) if text[0] != "-" else text for text in options] + list(more)


def test_figures_are_printed_and_written(place, capsys):
    out = place / "new" / "figures.json"
    assert evaluate.main(command(place, "--json", str(out), "--samples", str(place / "s"))) == 0
    text = capsys.readouterr().out
    assert "5 images, 7 boxes, numpy fp32" in text
    assert "AP50 1.000" in text
    assert "\nrecall 1.000 at precision 0.97 and IoU 0.3 (confidence 4.000)\n" in text
    # 2 pixels off in x and y: IoU 0.938, right at nine of the ten thresholds.
    assert "A       2      3  0.900  1.000" in text
    document = json.loads(out.read_text())
    assert document["ap50"] == pytest.approx(1.0)
    assert document["recall_sure"] == 1.0
    assert document["speed"]["num_images"] == 5
    assert document["engine"]["runtime"] == "numpy"
    assert (place / "s" / "samples.jpg").is_file()


def test_limit_takes_that_many_images(place, capsys):
    assert evaluate.main(command(place, "--limit", "2")) == 0
    assert capsys.readouterr().out.startswith("2 images, 1 boxes")


def test_errors_are_one_line_and_status_1(place, capsys):
    def fails(*more):
        assert evaluate.main(command(place, *more)) == 1
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        return lines[0]

    assert "no box of class face in 5 label files" in fails("--class-name", "face")
    assert "nowhere: no such folder" in fails("--images", str(place / "nowhere"))
    label = place / "labels" / "A_frame_0001.txt"
    label.write_text(label.read_text().rsplit(" ", 1)[0] + "\n")
    assert "A_frame_0001.txt:1: 14 columns; expected 15" in fails()
    (place / "model" / "detector.onnx").write_bytes(b"damaged")
    assert "detector.onnx: sha256 is" in fails()
    assert "model.json: no such file" in fails("--model", str(place))


@pytest.mark.parametrize(
    "more", [["--limit", "0"], ["--runtime", "tpu"], ["--precision", "int3"], ["--speed"]]
)
def test_usage_errors_exit_2(place, capsys, more):
    with pytest.raises(SystemExit) as caught:
        evaluate.main(command(place, *more))
    assert caught.value.code == 2


def test_help_needs_no_runtime(capsys):
    with pytest.raises(SystemExit) as caught:
        evaluate.main(["--help"])
    assert caught.value.code == 0
    assert "--labels DIR" in capsys.readouterr().out


def test_an_interrupted_write_leaves_earlier_figures_whole(place, monkeypatch):
    out = place / "figures.json"
    out.write_text("earlier")

    def fail(*args, **kwargs):
        raise DeployError("no")

    monkeypatch.setattr(evaluate, "write_samples", fail)
    monkeypatch.setattr(evaluate, "evaluate_model", fail)
    assert evaluate.main(command(place, "--json", str(out))) == 1
    assert out.read_text() == "earlier"
