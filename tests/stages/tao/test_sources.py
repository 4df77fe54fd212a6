"""Frames for TAO: of the network's size, or refused, never cut off silently."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.core.kitti import format_labels, hand_label, label_boxes, read_labels
from stages.tao.errors import TaoError
from stages.tao.sources import SourceCounts, write_source

INPUT_WH = (96, 64)


def write_frame(kitti: Path, name: str, image_wh: tuple[int, int]) -> None:
    for folder in ("images", "labels"):
        (kitti / folder).mkdir(parents=True, exist_ok=True)
    width, height = image_wh
    image = np.full((height, width, 3), 90, np.uint8)
    assert cv2.imwrite(str(kitti / "images" / name), image)
    box = (0.25 * width, 0.5 * height, 0.75 * width, height)
    label = kitti / "labels" / f"{Path(name).stem}.txt"
    label.write_text(format_labels([hand_label(box)]))


def source(tmp_path: Path, *stems: str, frames: str = "stretch") -> tuple[Path, SourceCounts]:
    folder = tmp_path / "source"
    folder.mkdir()
    counts = write_source(
        folder, tmp_path / "kitti", stems, input_wh=INPUT_WH, frames=frames, desc="test"
    )
    return folder, counts


def test_no_frame_gives_empty_folders(tmp_path: Path) -> None:
    folder, counts = source(tmp_path)
    assert counts == (0, 0)
    assert sorted(path.name for path in folder.iterdir()) == ["images", "labels"]


@pytest.mark.parametrize("frames", ["stretch", "exact", "auto_resize"])
def test_a_jpeg_of_the_networks_size_is_the_very_file(tmp_path: Path, frames: str) -> None:
    write_frame(tmp_path / "kitti", "a.jpeg", INPUT_WH)
    folder, counts = source(tmp_path, "a", frames=frames)
    assert (folder / "images/a.jpg").samefile(tmp_path / "kitti/images/a.jpeg")
    assert counts == (1, 0)


def test_another_size_is_stretched_with_its_boxes(tmp_path: Path) -> None:
    write_frame(tmp_path / "kitti", "a.jpg", (200, 100))
    folder, counts = source(tmp_path, "a")
    image = cv2.imread(str(folder / "images/a.jpg"))
    assert image is not None
    assert image.shape == (64, 96, 3)
    boxes = label_boxes(read_labels(folder / "labels/a.txt"))
    assert boxes.tolist() == [[24.0, 32.0, 72.0, 64.0]]
    assert counts == (1, 1)


def test_exact_refuses_another_size(tmp_path: Path) -> None:
    write_frame(tmp_path / "kitti", "a.jpg", (200, 100))
    with pytest.raises(TaoError, match="is 200x100, the network 96x64, and TAO would cut it off"):
        source(tmp_path, "a", frames="exact")


def test_auto_resize_hands_frames_and_boxes_on(tmp_path: Path) -> None:
    write_frame(tmp_path / "kitti", "a.jpg", (200, 100))
    folder, _ = source(tmp_path, "a", frames="auto_resize")
    assert (folder / "images/a.jpg").samefile(tmp_path / "kitti/images/a.jpg")
    text = (folder / "labels/a.txt").read_text()
    assert text == (tmp_path / "kitti/labels/a.txt").read_text()


def test_a_png_becomes_a_jpeg_since_a_spec_has_one_extension(tmp_path: Path) -> None:
    write_frame(tmp_path / "kitti", "a.png", INPUT_WH)
    folder, counts = source(tmp_path, "a", frames="exact")
    assert (folder / "images/a.jpg").read_bytes().startswith(b"\xff\xd8")
    assert counts == (1, 0)


def test_a_stem_that_is_listed_twice_is_two_frames(tmp_path: Path) -> None:
    write_frame(tmp_path / "kitti", "a.jpg", INPUT_WH)
    folder, _ = source(tmp_path, "a", "a")
    for name in ("images", "labels"):
        assert sorted(path.stem for path in (folder / name).iterdir()) == ["a", "a__2"]
