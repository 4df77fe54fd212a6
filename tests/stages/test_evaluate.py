import json
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from deploy.core.average_precision import Curve
from deploy.core.cluster import Postprocess, check_postprocess
from stages._evaluate_plot import draw_curves, steps
from stages._schema import EvaluateConfig, PostprocessConfig
from stages._stage import main
from stages.detectnet.checkpoint import save_model
from stages.detectnet.model import DetectNet, build_architecture
from stages.evaluate import STEPS, add_options, read_videos, run
from tests.deploy.kitti_folder import FRAMES, write_kitti_folder
from tests.deploy.tiny_models import detector_info, write_detector

CONF = Path(__file__).parents[2] / "conf" / "postprocess"
POSTPROCESS = detector_info().postprocess


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository root with labelled frames, two videos of which are the test split."""
    kitti = write_kitti_folder(tmp_path / "data" / "kitti")
    rows = [f"{stem},VIDEO_{stem[0]},1,640,384,0\n" for stem in sorted(FRAMES)]
    (kitti / "index.csv").write_text("stem,video,frame,width,height,train_only\n" + "".join(rows))
    (tmp_path / "data" / "split").mkdir()
    (tmp_path / "data" / "split" / "test.txt").write_text("\n".join(sorted(FRAMES)) + "\n")
    (tmp_path / "data" / "split" / "val.txt").write_text("")
    write_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_config(
    root: Path, *, postprocess: Postprocess = POSTPROCESS, **evaluate: object
) -> None:
    config = EvaluateConfig(**{"num_samples": 3, "speed_images": 2, **evaluate})
    sections = {
        "tracking": {"mode": "off"},
        "backend": {"name": "torch"},
        "evaluate": asdict(config),
        "postprocess": postprocess._asdict(),
    }
    (root / "resolved.yaml").write_text(yaml.safe_dump(sections))


def evaluate(step: str) -> int:
    return main("evaluate", run, options=add_options, argv=["--step", step])


def results(root: Path, name: str) -> bytes:
    return (root / "results" / "evaluate" / name).read_bytes()


def test_export_is_measured_as_int8_with_fp32_beside_it(root: Path) -> None:
    write_detector(root / "models" / "export")
    assert evaluate("export") == 0
    document = json.loads(results(root, "export.json"))
    assert (document["num_images"], document["num_boxes"]) == (5, 7)
    assert document["ap50"] == document["fp32_ap50"] == 1.0
    assert document["recall_sure"] == document["fp32_recall_sure"] == 1.0
    assert document["ap_tao"] == pytest.approx(6 / 7, abs=1e-6)
    boxes = {row["video"]: row["num_boxes"] for row in document["per_video"]}
    assert boxes["VIDEO_B"] == 4
    assert sum(row["num_images"] for row in document["per_video"]) == 5
    speed = json.loads(results(root, "export_speed.json"))
    assert speed["engine"]["precision"] == "int8"
    assert speed["num_images"] == 2
    assert set(json.loads(results(root, "export_pr.json"))[0]) >= {"recall", "precision"}


def test_equal_inputs_give_equal_bytes_but_for_the_speed(root: Path) -> None:
    write_detector(root / "models" / "export")
    names = ["export.json", "export_pr.json", "export_pr.png", "export_samples.jpg"]
    assert evaluate("export") == 0
    first = [results(root, name) for name in names]
    assert evaluate("export") == 0
    assert [results(root, name) for name in names] == first


def test_pictures_are_pictures(root: Path) -> None:
    write_detector(root / "models" / "export")
    assert evaluate("export") == 0
    for name in ("export_pr.png", "export_samples.jpg"):
        picture = cv2.imdecode(np.frombuffer(results(root, name), np.uint8), cv2.IMREAD_COLOR)
        assert min(picture.shape[:2]) >= 360


@pytest.mark.parametrize("step", STEPS[:3])
def test_steps_of_training_are_measured_in_pytorch(root: Path, step: str) -> None:
    torch.manual_seed(0)
    architecture = build_architecture(
        10, width=4, num_classes=1, input_wh=(160, 96), all_projections=True
    )
    folder = root / "models" / step
    folder.mkdir(parents=True)
    save_model(folder, DetectNet(architecture).eval(), postprocess=POSTPROCESS)
    assert evaluate(step) == 0
    document = json.loads(results(root, f"{step}.json"))
    assert document["num_boxes"] == 7
    assert "fp32_ap" not in document
    assert json.loads(results(root, f"{step}_speed.json"))["engine"]["runtime"] == "torch"


def test_the_configuration_decides_about_postprocessing_and_limit(root: Path) -> None:
    write_detector(root / "models" / "export")
    strict = POSTPROCESS._replace(minimum_box_height=90.0)
    write_config(root, postprocess=strict, limit=2)
    assert evaluate("export") == 0
    document = json.loads(results(root, "export.json"))
    assert (document["num_images"], document["recall"]) == (2, 0.0)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda root: None, "models/export is not there"),
        (lambda root: write_detector(root / "models" / "train"), "models/export is not there"),
        (lambda root: write_config(root, split="val"), "val.txt lists no image"),
    ],
)
def test_what_a_person_can_mend_is_one_line(
    root: Path, capsys: pytest.CaptureFixture[str], break_it: object, message: str
) -> None:
    if message.startswith("val"):
        write_detector(root / "models" / "export")
    assert callable(break_it)
    break_it(root)
    assert evaluate("export") == 1
    errors = capsys.readouterr().err.strip().splitlines()
    assert errors[-1].startswith("error: ")
    assert message in errors[-1]
    assert not (root / "results" / "evaluate" / "export.json").exists()


def test_a_step_is_needed() -> None:
    with pytest.raises(SystemExit) as caught:
        main("evaluate", run, options=add_options, argv=[])
    assert caught.value.code == 2


def test_videos_come_from_the_index(root: Path) -> None:
    assert read_videos(root / "data" / "kitti")["B_frame_0002"] == "VIDEO_B"


def test_configuration_fields_are_those_of_postprocess() -> None:
    assert tuple(PostprocessConfig.__dataclass_fields__) == Postprocess._fields


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_choice_of_postprocessing_is_complete_and_valid(path: Path) -> None:
    check_postprocess(Postprocess(**yaml.safe_load(path.read_text())))


def test_the_drawn_envelope_never_rises_and_starts_at_recall_zero() -> None:
    curve = Curve(
        np.array([0.5, 0.5, 1.0]), np.array([1.0, 0.5, 2 / 3]), np.array([0.9, 0.8, 0.7])
    )
    recall, envelope = steps(curve)
    assert recall.tolist() == [0.0, 0.5, 0.5, 1.0]
    assert envelope.tolist() == pytest.approx([1.0, 1.0, 2 / 3, 2 / 3])


def test_a_curve_without_detections_can_be_drawn(tmp_path: Path) -> None:
    empty = Curve(np.zeros(0), np.zeros(0), np.zeros(0))
    draw_curves(tmp_path / "a.png", {"train": empty}, confidence_threshold=0.5)
    assert (tmp_path / "a.png").stat().st_size > 1000
