import http.server
import os
import shutil
import threading
import zipfile
from functools import partial
from pathlib import Path

import pytest

from stages.datasets.config import DatasetConfig
from stages.datasets.errors import DatasetError
from stages.datasets.raw import RawCounts, fill_raw, local_path
from stages.datasets.render.config import RenderConfig
from tests.stages.datasets.samples import files_below, label, write_kitti, write_samples


def fill(tmp_path: Path, **settings: object) -> RawCounts:
    folder = tmp_path / "raw"
    folder.mkdir()
    return fill_raw(
        DatasetConfig(**settings),  # type: ignore[arg-type]
        folder,
        root=tmp_path,
        downloads=tmp_path / "downloads",
        workers=1,
    )


def pack(source: Path, target: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files_below(source).items():
            archive.writestr(prefix + name, content)
    return target


@pytest.mark.parametrize("depth", ["", "egohands_data/", "a/b/"])
def test_samples_are_found_at_any_depth_of_a_zip(tmp_path: Path, depth: str) -> None:
    write_samples(tmp_path / "source", ["CARDS_OFFICE_S_B", "CHESS_OFFICE_S_B"])
    (tmp_path / "source" / "_LABELLED_SAMPLES" / "notes.txt").write_text("not needed")
    pack(tmp_path / "source", tmp_path / "data.zip", depth)
    counts = fill(tmp_path, kind="egohands", path="data.zip")
    assert counts == RawCounts(videos=2, images=4, extra_images=0)
    expected = files_below(tmp_path / "source")
    expected.pop("_LABELLED_SAMPLES/notes.txt")
    assert files_below(tmp_path / "raw") == expected


@pytest.mark.parametrize("path", ["source", "source/_LABELLED_SAMPLES", "."])
def test_a_local_folder_is_hard_linked(tmp_path: Path, path: str) -> None:
    source = write_samples(tmp_path / "source", ["CARDS_OFFICE_S_B"])
    fill(tmp_path, kind="egohands", path=path)
    for name in files_below(source):
        assert os.path.samefile(source / name, tmp_path / "raw" / name)


def test_shadow_files_of_macos_are_left_out(tmp_path: Path) -> None:
    source = write_samples(tmp_path / "source", ["CARDS_OFFICE_S_B"])
    shadow = source / "__MACOSX" / "_LABELLED_SAMPLES" / "CARDS_OFFICE_S_B"
    shadow.mkdir(parents=True)
    (shadow / "frame_0011.jpg").write_bytes(b"x")
    (source / "_LABELLED_SAMPLES" / "CARDS_OFFICE_S_B" / "._frame_0011.jpg").write_bytes(b"x")
    assert fill(tmp_path, kind="egohands", path="source").images == 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds 0 folders _LABELLED_SAMPLES"),
        ({"a/x.jpg": b"1"}, "1 other files"),
        ({"a/_LABELLED_SAMPLES/V/1.jpg": b"1", "b/_LABELLED_SAMPLES/V/1.jpg": b"1"}, "2 folders"),
        ({"_LABELLED_SAMPLES/readme.md": b"1"}, "no <VIDEO>/frame_NNNN.jpg"),
    ],
)
def test_other_folders_are_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    (tmp_path / "source").mkdir()
    for name, content in files.items():
        place = tmp_path / "source" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        fill(tmp_path, kind="egohands", path="source")


def test_a_kitti_folder_and_extra_folders_are_brought(tmp_path: Path) -> None:
    write_kitti(tmp_path / "own" / "deep", {"a_1": label(1, 1, 9, 9), "a_2": ""})
    write_kitti(tmp_path / "more", {"b_1": label(1, 1, 9, 9)}, suffix=".png")
    counts = fill(tmp_path, kind="kitti", path="own", extra_train=["more", str(tmp_path / "more")])
    assert counts == RawCounts(videos=0, images=2, extra_images=2)
    assert sorted(files_below(tmp_path / "raw")) == [
        "extra_train/0/images/b_1.png",
        "extra_train/0/labels/b_1.txt",
        "extra_train/1/images/b_1.png",
        "extra_train/1/labels/b_1.txt",
        "images/a_1.jpg",
        "images/a_2.jpg",
        "labels/a_1.txt",
    ]


def test_kitti_without_a_source_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"set dataset\.path to your folder or zip"):
        fill(tmp_path, kind="kitti")


def test_kitti_needs_images_beside_labels(tmp_path: Path) -> None:
    (tmp_path / "own" / "images").mkdir(parents=True)
    with pytest.raises(DatasetError, match="0 pairs of images/ and labels/"):
        fill(tmp_path, kind="kitti", path="own")


def test_a_download_is_unpacked_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_samples(tmp_path / "source", ["CARDS_OFFICE_S_B"])
    (tmp_path / "www").mkdir()
    pack(tmp_path / "source", tmp_path / "www" / "egohands data.zip")
    handler = partial(QuietHandler, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        base = f"http://127.0.0.1:{server.server_port}"
        caplog.set_level("INFO")
        urls = [f"{base}/gone/egohands%20data.zip", f"{base}/egohands%20data.zip"]
        counts = fill(tmp_path, kind="egohands", urls=urls)
        server.shutdown()
        thread.join()
    shutil.rmtree(tmp_path / "raw")
    assert fill(tmp_path, kind="egohands", urls=urls) == counts  # the server is gone
    assert counts.images == 2
    assert files_below(tmp_path / "raw") == files_below(tmp_path / "source")
    (kept,) = (tmp_path / "downloads").iterdir()
    assert kept.name.endswith("-egohands data.zip")
    assert "not checked: dataset.sha256 is null" in caplog.text


def test_a_queued_experiment_finds_folders_of_the_repository(tmp_path: Path) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmpabc"
    copy.mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    assert local_path("mine", copy) == tmp_path / "mine"
    assert local_path("mine", tmp_path) == tmp_path / "mine"
    (copy / "mine").mkdir()
    assert local_path("mine", copy) == copy / "mine"
    assert local_path("/elsewhere", copy) == Path("/elsewhere")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_drawn_videos_come_beside_the_real_ones(tmp_path: Path) -> None:
    write_samples(tmp_path / "own", ["A_B_C_D"])
    render = RenderConfig(
        image_wh=[160, 120],
        train_videos=2,
        val_videos=0,
        test_videos=1,
        train_frames=2,
        frames_per_video=3,
    )
    counts = fill(tmp_path, kind="egohands", path="own", drawn=True, render=render)
    drawn = sorted((tmp_path / "raw/drawn/_LABELLED_SAMPLES").iterdir())
    assert [folder.name.partition("_")[0] for folder in drawn] == ["TEST", "TRAIN", "TRAIN"]
    assert [folder.name for folder in (tmp_path / "raw/_LABELLED_SAMPLES").iterdir()] == [
        "A_B_C_D"
    ]
    assert counts == RawCounts(videos=1, images=2, extra_images=2 * 2 + render.frames_per_video)


def test_drawing_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"dataset\.drawn is true, but dataset\.kind=rendered"):
        DatasetConfig(kind="rendered", drawn=True)
