import json
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from stages.datasets.egohands import HAND_FIELDS, list_videos, read_polygons, read_video
from stages.datasets.errors import DatasetError
from tests.stages.datasets.samples import SQUARE, write_image, write_polygons, write_video

OUTSIDE = SQUARE - 100.0
OVER_THE_EDGE = SQUARE - [15.0, 0.0]
LINE = SQUARE[:2]


def test_boxes_are_the_extremes_in_field_order(tmp_path: Path) -> None:
    rows = [{"yourright": SQUARE, "myleft": SQUARE + 5}, {}, {"myright": SQUARE[:3]}]
    video = read_video(write_video(tmp_path / "CARDS_OFFICE_S_B", rows))
    first, empty, last = video.frames
    assert first.stem == "CARDS_OFFICE_S_B_frame_0011"
    assert (first.video, first.frame, first.image_wh) == ("CARDS_OFFICE_S_B", 11, (64, 48))
    np.testing.assert_array_equal(first.xyxy, [[15, 15, 25, 27], [10, 10, 20, 22]])
    assert empty.xyxy.shape == (0, 4)
    np.testing.assert_array_equal(last.xyxy, [[10, 10, 20, 22]])
    assert video.fates == {"clipped": 0, "outside": 0, "degenerate": 0}


def test_clipped_and_dropped_polygons_are_counted(tmp_path: Path) -> None:
    rows = [
        {"myleft": OUTSIDE, "myright": OVER_THE_EDGE, "yourleft": LINE, "yourright": SQUARE},
        {"myleft": OVER_THE_EDGE},
    ]
    video = read_video(write_video(tmp_path / "V", rows))
    np.testing.assert_array_equal(video.frames[0].xyxy, [[0, 10, 5, 22], [10, 10, 20, 22]])
    assert video.fates == {"clipped": 2, "outside": 1, "degenerate": 1}


def test_images_of_several_sizes_clip_by_their_own(tmp_path: Path) -> None:
    folder = write_video(tmp_path / "V", [{"myleft": SQUARE}, {"myleft": SQUARE}])
    write_image(folder / "frame_0011.jpg", seed=1, image_wh=(16, 16))
    first, second = read_video(folder).frames
    np.testing.assert_array_equal(first.xyxy, [[10, 10, 16, 16]])
    np.testing.assert_array_equal(second.xyxy, [[10, 10, 20, 22]])


def test_rows_in_a_column_read_the_same(tmp_path: Path) -> None:
    rows = [{"myleft": SQUARE}, {"yourright": SQUARE + 1}]
    write_polygons(tmp_path / "row.mat", rows)
    write_polygons(tmp_path / "column.mat", rows, column=True)
    for a, b in zip(
        read_polygons(tmp_path / "row.mat"), read_polygons(tmp_path / "column.mat"), strict=True
    ):
        for one, other in zip(a, b, strict=True):
            np.testing.assert_array_equal(one, other)


def test_integer_coordinates_are_read(tmp_path: Path) -> None:
    folder = write_video(tmp_path / "V", [{"myleft": SQUARE.astype(np.uint16)}])
    np.testing.assert_array_equal(read_video(folder).frames[0].xyxy, [[10, 10, 20, 22]])


def test_gestures_follow_their_hands_past_dropped_ones(tmp_path: Path) -> None:
    rows = [
        {"myleft": OUTSIDE, "myright": SQUARE, "yourleft": SQUARE + 1, "yourright": SQUARE + 2}
    ]
    gestures = [{"myleft": "fist", "myright": "ok", "yourleft": None, "yourright": "two"}]
    video = read_video(write_video(tmp_path / "V", rows, gestures=gestures))
    assert video.frames[0].gestures == {0: "ok", 2: "two"}


@pytest.mark.parametrize(
    ("gestures", "message"),
    [
        ([], "0 frames, expected schema 1 and 1 frames"),
        (
            [{"myleft": "wave"}],
            "gesture 'wave', known: fist, ok, random, stop, thumbs_up, two, null",
        ),
        ([{"myright": "ok"}], r"frame 0 is \{'myright': 'ok'\}, expected .*\(myleft\)"),
        ([["ok"]], "frame 0 is"),
    ],
)
def test_wrong_gestures_are_refused(
    tmp_path: Path, gestures: list[dict[str, str | None]], message: str
) -> None:
    folder = write_video(tmp_path / "V", [{"myleft": SQUARE}], gestures=gestures)
    with pytest.raises(DatasetError, match=message):
        read_video(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps({"schema": 2, "frames": [{}]})])
def test_a_broken_gesture_file_is_named(tmp_path: Path, text: str) -> None:
    folder = write_video(tmp_path / "V", [{"myleft": SQUARE}])
    (folder / "gestures.json").write_text(text)
    with pytest.raises(DatasetError, match=r"gestures\.json .*correct the file"):
        read_video(folder)


@pytest.mark.parametrize("frames", [1, 3])
def test_frames_and_rows_must_be_as_many(tmp_path: Path, frames: int) -> None:
    folder = write_video(tmp_path / "V", [{}, {}])
    write_image(folder / "frame_0033.jpg", seed=1)
    if frames == 1:
        (folder / "frame_0022.jpg").unlink()
        (folder / "frame_0033.jpg").unlink()
    with pytest.raises(DatasetError, match=f"{frames} frames and polygons.mat 2 rows.*expected"):
        read_video(folder)


def test_missing_polygons_are_named(tmp_path: Path) -> None:
    folder = write_video(tmp_path / "V", [{}])
    (folder / "polygons.mat").unlink()
    with pytest.raises(DatasetError, match=r"V/polygons\.mat is missing.*take the video out"):
        read_video(folder)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    folder = write_video(tmp_path / "V", [{}, {}])
    image = folder / "frame_0022.jpg"
    image.write_bytes(image.read_bytes()[:-300])
    with pytest.raises(DatasetError, match=r"frame_0022\.jpg is no readable image.*cut"):
        read_video(folder)


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0", b"x" * 500, b"\x00" * 200])
def test_a_broken_mat_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "polygons.mat").write_bytes(content)
    with pytest.raises(DatasetError, match="cannot be read") as caught:
        read_polygons(tmp_path / "polygons.mat")
    assert "\n" not in str(caught.value)


def test_a_truncated_mat_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "polygons.mat"
    write_polygons(path, [{"myleft": SQUARE}] * 20)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DatasetError, match="cannot be read"):
        read_polygons(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"other": np.zeros(3)},
            "cannot be read .*expected a MATLAB 5 file with the struct polygons",
        ),
        ({"polygons": np.zeros(3)}, "fields none, expected myleft, myright"),
        ({"polygons": {"left": SQUARE}}, "fields left, expected myleft"),
        (
            {"polygons": {name: np.zeros((5, 3)) for name in HAND_FIELDS}},
            r"row 1, myleft is .*\(5, 3\)",
        ),
        ({"polygons": dict.fromkeys(HAND_FIELDS, "text")}, "row 1, myleft is"),
    ],
)
def test_another_struct_is_refused(
    tmp_path: Path, content: dict[str, object], message: str
) -> None:
    savemat(tmp_path / "polygons.mat", content)
    with pytest.raises(DatasetError, match=message):
        read_polygons(tmp_path / "polygons.mat")


def test_videos_are_sorted_and_needed(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no video folder"):
        list_videos(tmp_path)
    for name in ("B", "A"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("")
    assert [path.name for path in list_videos(tmp_path)] == ["A", "B"]
