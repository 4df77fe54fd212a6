import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.datasets.config import SplitConfig
from stages.datasets.errors import DatasetError
from stages.datasets.index import IndexRow
from stages.datasets.split import (
    SIDES,
    SideCounts,
    check_leaks,
    count_side,
    list_stems,
    split_rows,
    split_videos,
)
from tests.stages.datasets.samples import label, write_image, write_kitti

VIDEOS = st.lists(st.text("ABCDE_", min_size=1, max_size=6), min_size=3, max_size=30, unique=True)
SEEDS = st.integers(0, 99)
DRAWN = SplitConfig(val=[], test=[])


def of(sides: dict[str, str], side: str) -> list[str]:
    return sorted(video for video, value in sides.items() if value == side)


def row(stem: str, video: str, *, train_only: bool = False) -> IndexRow:
    return IndexRow(stem, video, 0, 64, 48, train_only)


def test_drawn_videos_go_by_their_names() -> None:
    videos = ["TRAIN_A_1", "VAL_A_2", "TEST_B_3", "TRAIN_TEST_4"]
    assert split_videos(videos, SplitConfig()) == {
        "TRAIN_A_1": "train",
        "TRAIN_TEST_4": "train",
        "VAL_A_2": "val",
        "TEST_B_3": "test",
    }


def test_names_and_patterns_mix() -> None:
    config = SplitConfig(val=["CARDS_*_B"], test=["CHESS_COURTYARD_B_T", "odd[1]"])
    videos = ["CARDS_OFFICE_B", "CARDS_OFFICE_T", "CHESS_COURTYARD_B_T", "odd[1]"]
    sides = split_videos(videos, config)
    assert of(sides, "val") == ["CARDS_OFFICE_B"]
    assert of(sides, "test") == ["CHESS_COURTYARD_B_T", "odd[1]"]


@settings(deadline=None)
@given(VIDEOS, SEEDS)
def test_every_video_is_on_one_side_and_no_side_is_empty(videos: list[str], seed: int) -> None:
    config = SplitConfig(val=[], test=[], val_frac=0.2, test_frac=0.3, seed=seed)
    sides = split_videos(videos, config)
    assert sorted(sides) == sorted(videos)
    counts = {side: len(of(sides, side)) for side in SIDES}
    assert min(counts.values()) >= 1
    if len(videos) >= 10:
        assert counts["val"] == round(0.2 * len(videos))
        assert counts["test"] == round(0.3 * len(videos))


@settings(deadline=None)
@given(VIDEOS, SEEDS, st.randoms())
def test_the_order_of_videos_does_not_matter(videos: list[str], seed: int, random: object) -> None:
    config = SplitConfig(val=[], test=[], seed=seed)
    shuffled = list(videos)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert split_videos(videos, config) == split_videos(shuffled, config)


@settings(deadline=None)
@given(VIDEOS, SEEDS)
def test_a_new_video_moves_at_most_one_out_of_each_side(videos: list[str], seed: int) -> None:
    config = SplitConfig(val=[], test=[], val_frac=0.2, test_frac=0.2, seed=seed)
    before = split_videos(videos, config)
    after = split_videos([*videos, "new"], config)
    moved = [(before[video], after[video]) for video in videos if before[video] != after[video]]
    assert moved.count(("val", "train")) <= 1
    assert moved.count(("test", "train")) <= 1
    if len(videos) >= 10:
        assert ("val", "test") not in moved
        assert ("test", "val") not in moved


def test_another_seed_draws_others() -> None:
    videos = [f"V{number}" for number in range(20)]
    drawn = {
        tuple(of(split_videos(videos, SplitConfig(val=[], test=[], seed=seed)), "test"))
        for seed in range(10)
    }
    assert len(drawn) > 5


def test_default_patterns_that_match_nothing_draw_both_sides() -> None:
    videos = [f"CARDS_OFFICE_{number}" for number in range(48)]
    assert split_videos(videos, SplitConfig()) == split_videos(videos, DRAWN)


def test_a_named_side_stays_and_the_other_is_drawn_from_the_rest() -> None:
    config = SplitConfig(val=[], test=["C"])
    sides = split_videos(["A", "B", "C"], config)
    assert of(sides, "test") == ["C"]
    assert len(of(sides, "val")) == len(of(sides, "train")) == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            SplitConfig(test=["NONE"]),
            r"split\.val has 'VAL_\*', which matches none of the 3 videos \(A, B, C\)",
        ),
        (SplitConfig(val=[], test=["A", "N*"]), r"split\.test has 'N\*', which matches none"),
        (SplitConfig(val=["A", "B"], test=["B"]), "video B is on both sides"),
    ],
)
def test_wrong_entries_are_named_with_the_next_step(config: SplitConfig, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        split_videos(["A", "B", "C"], config)
    assert "\n" not in str(caught.value)
    assert "split." in str(caught.value)


@pytest.mark.parametrize("videos", [[], ["A"], ["A", "B"]])
def test_too_few_videos_name_the_setting_for_stems(videos: list[str]) -> None:
    with pytest.raises(DatasetError, match=rf"{len(videos)} videos.*set dataset\.video_pattern"):
        split_videos(videos, SplitConfig())


def test_extra_frames_are_always_for_training() -> None:
    rows = [row(f"{video}_1", video) for video in "ABC"]
    extra = row("EXTRA0_x", "EXTRA0", train_only=True)
    split = split_rows([*rows, extra], SplitConfig(val=["A"], test=["B", "C"]))
    assert split["train"] == [extra]
    assert [item.stem for item in split["test"]] == ["B_1", "C_1"]


def test_nothing_left_for_training_is_refused() -> None:
    rows = [row("a_1", "A"), row("b_1", "B")]
    with pytest.raises(DatasetError, match="no video is left for training"):
        split_rows(rows, SplitConfig(val=["A"], test=["B"]))


def test_a_video_on_two_sides_is_a_leak(tmp_path: Path) -> None:
    for stem in ("a_1", "a_2"):
        write_image(tmp_path / f"{stem}.jpg", seed=len(stem))
    with pytest.raises(DatasetError, match="video A is in train and in val"):
        check_leaks({"train": [row("a_1", "A")], "val": [row("a_2", "A")]}, tmp_path)


def test_an_equal_picture_on_two_sides_is_a_leak(tmp_path: Path) -> None:
    for number, stem in enumerate(["a_1", "a_2", "b_1", "b_2"]):
        write_image(tmp_path / f"{stem}.png", seed=number)
    split = {
        "train": [row("a_1", "A"), row("a_2", "A")],
        "val": [row("b_1", "B"), row("b_2", "B")],
        "test": [],
    }
    check_leaks(split, tmp_path)
    shutil.copy(tmp_path / "a_1.png", tmp_path / "a_2.png")  # within a side it is no leak
    check_leaks(split, tmp_path)
    shutil.copy(tmp_path / "a_1.png", tmp_path / "b_2.png")
    with pytest.raises(DatasetError, match=r"b_2 \(val\) and a_1 \(train\) are the same picture"):
        check_leaks(split, tmp_path)


def test_sides_are_counted(tmp_path: Path) -> None:
    write_kitti(tmp_path, {"a_1": label(1, 1, 9, 9) * 2, "b_1": label(1, 1, 9, 9)})
    rows = [row("a_1", "A"), row("b_1", "B")]
    assert count_side(rows, tmp_path / "labels") == SideCounts(images=2, boxes=3, videos=2)
    assert count_side([], tmp_path / "labels") == SideCounts(0, 0, 0)


def test_own_training_frames_stand_there_as_often_as_asked() -> None:
    rows = [row("a", "A"), row("b", "B"), row("x", "EXTRA0", train_only=True)]
    config = SplitConfig(repeat_own=3)
    assert list_stems("train", rows, config) == ["a", "a", "a", "b", "b", "b", "x"]
    assert list_stems("val", rows, config) == ["a", "b", "x"]
    with pytest.raises(ValueError, match=r"split\.repeat_own is 0, expected 1 or more"):
        SplitConfig(repeat_own=0)


def test_all_real_videos_train_where_drawn_ones_stand_for_val_and_test() -> None:
    """What experiment=egohands-all relies on."""
    videos = [row("a", "A"), row("b", "B"), row("v", "VAL_1"), row("t", "TEST_1")]
    split = split_rows(videos, SplitConfig())
    assert [item.video for item in split["train"]] == ["A", "B"]
