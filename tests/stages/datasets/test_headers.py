import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.datasets.errors import DatasetError
from stages.datasets.headers import read_image_size
from tests.stages.datasets.samples import write_image

EXIF = b"\xff\xe1" + (9000).to_bytes(2, "big") + b"Exif\0\0" + b"\xff\xd9" * 4496


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("image_wh", [(64, 48), (1, 1), (300, 700)])
def test_size_is_what_a_decoder_says(
    tmp_path: Path, suffix: str, image_wh: tuple[int, int]
) -> None:
    path = write_image(tmp_path / f"a{suffix}", seed=1, image_wh=image_wh)
    assert read_image_size(path) == image_wh


@pytest.mark.parametrize("flag", [cv2.IMWRITE_JPEG_PROGRESSIVE, cv2.IMWRITE_JPEG_RST_INTERVAL])
def test_progressive_and_restarting_jpegs_are_read(tmp_path: Path, flag: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.jpg"), image, [flag, 1])
    assert read_image_size(tmp_path / "a.jpg") == (64, 48)


@pytest.mark.parametrize(
    ("head", "tail"), [(b"", b"\0" * 100), (EXIF, b""), (EXIF, b"\0"), (b"\xff" * 7, b"")]
)
def test_long_headers_fill_bytes_and_trailing_bytes_are_tolerated(
    tmp_path: Path, head: bytes, tail: bytes
) -> None:
    path = write_image(tmp_path / "a.jpg", seed=1)
    data = path.read_bytes()
    path.write_bytes(data[:2] + head + data[2:] + tail)
    assert read_image_size(path) == (64, 48)


@settings(deadline=None)
@given(st.data())
def test_a_cut_image_is_found_wherever_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    suffix = data.draw(st.sampled_from([".jpg", ".png"]))
    path = write_image(tmp_path_factory.getbasetemp() / f"cut{suffix}", seed=1)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(DatasetError, match="no readable image"):
        read_image_size(path)


def test_a_cut_image_is_found_though_its_thumbnail_has_an_end(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.jpg", seed=1)
    data = path.read_bytes()
    path.write_bytes(data[:2] + EXIF + data[2:-700])
    with pytest.raises(DatasetError, match="without the end marker"):
        read_image_size(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"GIF89a......", "starts with 4749463839612e2e"),
        (b"\xff\xd8\x00\x00" + b"\0" * 20, "byte 2 is 0x00"),
        (b"\xff\xd8\xff\xda" + b"\0" * 20 + b"\xff\xd9", "no size"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40 + b"IEND\xae\x42\x60\x82", "no valid IHDR"),
    ],
)
def test_other_bytes_are_refused_with_the_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=reason) as caught:
        read_image_size(path)
    assert str(path) in str(caught.value)
    assert "replace the file" in str(caught.value)


def exif(orientation: int, order: str) -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    body = b"Exif\0\0" + mark + struct.pack(order + "IH", 8, 1) + entry + bytes(4)
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_turned_picture_is_refused(tmp_path: Path, order: str) -> None:
    path = write_image(tmp_path / "a.jpg", seed=1)
    data = path.read_bytes()
    path.write_bytes(data[:2] + exif(1, order) + data[2:])
    assert read_image_size(path) == (64, 48)
    path.write_bytes(data[:2] + exif(6, order) + data[2:])
    turned = cv2.imread(str(path))
    assert turned is not None
    assert turned.shape[:2] == (64, 48)  # OpenCV applies it
    with pytest.raises(DatasetError, match="EXIF orientation is 6"):
        read_image_size(path)


def test_a_missing_file_is_a_dataset_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="No such file"):
        read_image_size(tmp_path / "a.jpg")
