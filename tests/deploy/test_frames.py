import numpy as np
import pytest

from deploy.core.errors import DeployError
from deploy.frames import find_frames, group_by_video, read_image
from tests.deploy.kitti_folder import FRAMES, write_kitti_folder


def find(folder, **options):
    return find_frames(folder / "images", folder / "labels", **options)


def test_frames_are_sorted_and_carry_their_truth(tmp_path):
    frames = find(write_kitti_folder(tmp_path))
    assert [frame.stem for frame in frames] == sorted(FRAMES)
    assert [len(frame.truth) for frame in frames] == [1, 2, 0, 1, 3]
    assert frames[0].truth.tolist() == [[64, 64, 192, 192]]
    assert read_image(frames[0].image_path).shape == (384, 640, 3)


def test_stems_and_limit_choose(tmp_path):
    write_kitti_folder(tmp_path)
    assert [f.stem for f in find(tmp_path, stems=["B_frame_0003"])] == ["B_frame_0003"]
    assert [f.stem for f in find(tmp_path, limit=2)] == ["A_frame_0001", "B_frame_0001"]
    assert len(find(tmp_path, limit=99)) == 5


def test_only_boxes_of_the_class_are_true(tmp_path):
    write_kitti_folder(tmp_path)
    assert [len(f.truth) for f in find(tmp_path, class_name="Hand")] == [1, 2, 0, 1, 3]
    assert sum(len(f.truth) for f in find(tmp_path, class_name="face")) == 0


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DeployError, match="images: no such folder"):
        find(tmp_path)
    write_kitti_folder(tmp_path)
    with pytest.raises(DeployError, match="1 of 2 images are missing, the first is C"):
        find(tmp_path, stems=["A_frame_0001", "C"])
    (tmp_path / "labels" / "B_frame_0002.txt").unlink()
    with pytest.raises(DeployError, match=r"B_frame_0002.txt: no label file for B_frame_0002.png"):
        find(tmp_path)
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    with pytest.raises(DeployError, match="images: no image; expected files .bmp"):
        find(tmp_path)


def test_a_picture_that_is_none_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    with pytest.raises(DeployError, match="a.jpg: cannot be read as an image"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("stem", "video"),
    [
        ("CARDS_OFFICE_S_B_frame_0011", "CARDS_OFFICE_S_B"),
        ("clip-7_00012", "clip-7"),
        ("000012", "all"),
        ("frame_0012", "all"),
        ("portrait", "portrait"),
    ],
)
def test_the_video_is_told_from_the_name(stem, video):
    assert group_by_video([stem]) == {video: [stem]}


def test_groups_are_sorted_and_known_videos_win():
    assert group_by_video(["b_1", "a_2", "a_1"]) == {"a": ["a_1", "a_2"], "b": ["b_1"]}
    assert group_by_video(["x", "y"], {"x": "v", "y": "v"}) == {"v": ["x", "y"]}
    assert group_by_video(np.array([])) == {}
