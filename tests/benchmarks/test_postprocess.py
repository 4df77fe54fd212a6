"""Every row clusters the same maps: the network is asked once per frame."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import postprocess
from deploy.core.cluster import Postprocess, check_postprocess
from tests.deploy.kitti_folder import write_kitti_folder
from tests.deploy.tiny_models import write_detector

BASE = Postprocess("nms", 0.05, 0.3, 1.0, 0.6, "max", 0.8, 4.0)


def test_rows_are_valid_and_differ() -> None:
    rows = list(postprocess.list_rows(BASE))
    assert rows[0] == ("as in model.json", BASE)
    assert all(check_postprocess(constants) == constants for _, constants in rows)
    assert len({name for name, _ in rows}) == len(rows)


def test_later_passes_get_the_first_answers() -> None:
    asked = []

    def infer(batch: np.ndarray) -> dict[str, np.ndarray]:
        asked.append(batch)
        return {"maps": batch + len(asked)}

    network = postprocess.Remembered(infer)
    frames = [np.zeros(2), np.ones(2)]
    first = [network(frame)["maps"].tolist() for frame in frames]
    network.rewind()
    assert [network(frame)["maps"].tolist() for frame in frames] == first == [[1, 1], [3, 3]]
    assert len(asked) == 2


def test_table_of_a_model_on_chosen_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_detector(tmp_path / "model")
    write_kitti_folder(tmp_path)
    stems = sorted(path.stem for path in (tmp_path / "images").iterdir())
    (tmp_path / "val.txt").write_text(f"{stems[0]}\n")
    places = {"model": "model", "images": "images", "labels": "labels", "stems": "val.txt"}
    arguments = [text for name, at in places.items() for text in (f"--{name}", str(tmp_path / at))]
    assert postprocess.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| as in model.json | 1.000 | ")
    assert len(lines) == 2 + len(list(postprocess.list_rows(BASE)))
