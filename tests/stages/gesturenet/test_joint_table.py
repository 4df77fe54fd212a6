"""A table of joints is read as it was written, and gives boxes a little wider than the joints."""

from pathlib import Path

import numpy as np
import pytest

from stages.gesturenet.errors import GestureError
from stages.gesturenet.joint_table import COLUMNS, JointRow, hand_box, read_joints, write_joints


def test_rows_come_back_ordered_by_path(tmp_path: Path) -> None:
    joints = np.random.default_rng(1).uniform(-0.1, 1.1, (2, 21, 2)).round(4)
    rows = [JointRow("two/b_1.jpg", "left", 0.9, joints[0])]
    rows += [JointRow("fist/a_1.jpg", "right", 1.0, joints[1])]
    write_joints(tmp_path / "joints.csv", rows)
    assert (tmp_path / "joints.csv").read_text().splitlines()[1].startswith("fist/a_1.jpg,right,")
    known = read_joints(tmp_path / "joints.csv")
    assert known["two/b_1.jpg"] == pytest.approx(joints[0], abs=1e-6)
    assert known["fist/a_1.jpg"] == pytest.approx(joints[1], abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [None, "", "path,x0\n", ",".join(COLUMNS) + "\na,left,1\n"],
    ids=["missing", "empty", "other columns", "short row"],
)
def test_another_file_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "joints.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(GestureError, match="joints.csv is no table of joints"):
        read_joints(path)


@pytest.mark.parametrize(
    ("length", "breadth", "margin"),
    [(100.0, 40.0, 11.5), (20.0, 40.0, 5.98)],
    ids=["from the front", "from its end"],
)
def test_the_box_is_wider_than_the_joints_by_a_share_of_the_palm(
    length: float, breadth: float, margin: float
) -> None:
    joints = np.zeros((21, 2))
    joints[9], joints[17] = (0.0, length), (breadth, 0.0)
    expected = [-margin, -margin, breadth + margin, length + margin]
    assert hand_box(joints).tolist() == pytest.approx(expected)
