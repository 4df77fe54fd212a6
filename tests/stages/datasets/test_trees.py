import os
import stat
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from stages.datasets.errors import DatasetError
from stages.datasets.trees import link_or_copy, open_tree, place_files


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def take_all(source: Path, target: Path) -> int:
    with open_tree(source) as tree:
        return place_files(tree, [(file, target / file) for file in tree.files], description="x")


def test_a_zip_and_its_folder_are_the_same_tree(tmp_path: Path) -> None:
    files = {"b/two.txt": b"2", "a.txt": b"1", "b/c/three.txt": b"3" * 5000}
    source = make_zip(tmp_path / "t.zip", files)
    assert take_all(source, tmp_path / "one") == 3
    assert take_all(tmp_path / "one", tmp_path / "two") == 3
    for name, content in files.items():
        assert (tmp_path / "two" / name).read_bytes() == content
    assert os.path.samefile(tmp_path / "one/a.txt", tmp_path / "two/a.txt")


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..\\x", "C:\\x", "C:/x", "\\x"])
def test_a_path_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    source = make_zip(tmp_path / "t.zip", {name: b"1", "fine.txt": b"2"})
    with pytest.raises(DatasetError, match="leads outside"):
        take_all(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_in_a_zip_are_not_followed(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("./a//b.txt", b"1")
    with open_tree(tmp_path / "t.zip") as tree:
        assert tree.files == [PurePosixPath("a/b.txt")]
        tree.place(tree.files[0], tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_bytes() == b"1"


@pytest.mark.parametrize("kept_bytes", [0, 10, 3000])
def test_a_truncated_zip_is_one_line(tmp_path: Path, kept_bytes: int) -> None:
    source = make_zip(tmp_path / "t.zip", {"a.bin": os.urandom(5000)})
    source.write_bytes(source.read_bytes()[:kept_bytes])
    with pytest.raises(DatasetError, match=f"{kept_bytes} bytes.*cut short") as caught:
        take_all(source, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_damaged_content_names_the_member(tmp_path: Path) -> None:
    source = make_zip(tmp_path / "t.zip", {"a.bin": os.urandom(5000)})
    data = bytearray(source.read_bytes())
    data[2000:2010] = bytes(10)
    source.write_bytes(data)
    with pytest.raises(DatasetError, match=r"a\.bin is damaged"):
        take_all(source, tmp_path / "out")


def test_a_missing_source_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none is not there.*dataset\.path"):
        take_all(tmp_path / "none", tmp_path / "out")


def test_files_are_copied_where_links_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_bytes(b"1")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"1"
    assert not os.path.samefile(tmp_path / "a", tmp_path / "b")


def test_a_symbolic_link_leads_to_its_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "deep").mkdir()
    link_or_copy(tmp_path / "link", tmp_path / "deep" / "b")
    assert not (tmp_path / "deep" / "b").is_symlink()
    assert os.path.samefile(tmp_path / "a", tmp_path / "deep" / "b")


def test_an_unreadable_source_is_a_dataset_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        link_or_copy(tmp_path / "none", tmp_path / "b")
