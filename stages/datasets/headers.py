"""Image sizes from the header alone, with a cheap check that the file is whole; no decoding.

JPEG: ITU-T T.81, annex B: markers SOI, SOFn (size), SOS, EOI. PNG: W3C PNG, sections 5 and 11:
signature, IHDR (size), IEND. EXIF 2.3, section 4.6.4: Orientation, which some decoders (OpenCV)
apply to the pixels and some labelling tools do not, so that a turned picture and its boxes may
disagree.
"""

import contextlib
import os
import struct

from stages.datasets.errors import DatasetError

JPEG_SUFFIXES = (".jpg", ".jpeg")
IMAGE_SUFFIXES = (*JPEG_SUFFIXES, ".png")
HEAD_BYTES = 4096
TAIL_BYTES = 65536
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xae\x42\x60\x82"
JPEG_END = b"\xff\xd9"
SOF_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # DHT, JPG, DAC are none
BARE_MARKERS = frozenset((0x01, *range(0xD0, 0xD8)))  # TEM, RSTn: without a length
SOS = 0xDA
APP1 = 0xE1
EXIF_ORIENTATION = 0x0112


class _BadHeaderError(Exception):
    """The bytes are no whole image; the message says why."""


def read_image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (width, height) of a JPEG or PNG file.

    Raises DatasetError when the file cannot be read, is no such image, or is cut short.
    """
    try:
        file = os.open(path, os.O_RDONLY)
        try:
            return _read_size(file)
        finally:
            os.close(file)
    except OSError as error:
        reason = error.strerror
    except _BadHeaderError as error:
        reason = str(error)
    raise DatasetError(
        f"{os.fspath(path)} is no readable image: {reason}; replace the file or remove it with "
        "its label"
    )


def jpeg_layout(data: bytes) -> tuple[int, int, int] | None:
    """Return width, height and the offset of the first scan; None when `data` ends before it.

    Raises _BadHeaderError when the bytes are no JPEG.
    """
    if data[:2] != b"\xff\xd8":
        raise _BadHeaderError(f"it starts with {data[:8].hex()}, not as JPEG or PNG do")
    size: tuple[int, int] | None = None
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            raise _BadHeaderError(f"byte {at} is {data[at]:#04x}, expected a JPEG marker (0xff)")
        marker = data[at + 1]
        if marker == 0xFF or marker in BARE_MARKERS:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in SOF_MARKERS:
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = (width, height)
        if marker == APP1:
            _check_orientation(data[at + 4 : at + 4 + HEAD_BYTES])
        if marker == SOS:
            if size is None or not all(size):
                raise _BadHeaderError("no size stands before its pixels")
            return (*size, at)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _read_size(file: int) -> tuple[int, int]:
    head = os.pread(file, HEAD_BYTES, 0)
    num_bytes = os.fstat(file).st_size
    if not num_bytes:
        raise _BadHeaderError("it is empty")
    if head.startswith(PNG_SIGNATURE):
        return _png_size(head, _tail(file, num_bytes, after=0))
    layout = jpeg_layout(head)
    if layout is None and num_bytes > len(head):
        layout = jpeg_layout(os.pread(file, num_bytes, 0))
    if layout is None:
        raise _BadHeaderError(f"it ends within its header, after {num_bytes} bytes")
    width, height, scan = layout
    # Nothing but the end marker itself can look like one behind the first scan.
    if os.pread(file, 2, num_bytes - 2) != JPEG_END and (
        JPEG_END not in _tail(file, num_bytes, after=scan)
    ):
        raise _BadHeaderError(
            f"it ends after {num_bytes} bytes without the end marker, so it is cut"
        )
    return width, height


def _check_orientation(segment: bytes) -> None:
    """Raise _BadHeaderError when an EXIF segment says that the picture is turned or mirrored."""
    tiff = segment[6:]
    if not segment.startswith(b"Exif\0\0") or tiff[:2] not in (b"II", b"MM"):
        return
    order = "<" if tiff.startswith(b"II") else ">"
    with contextlib.suppress(struct.error):  # a directory beyond the segment has nothing to say
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (num_entries,) = struct.unpack_from(order + "H", tiff, at)
        for entry in range(at + 2, at + 2 + 12 * num_entries, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == EXIF_ORIENTATION and 2 <= value <= 8:
                raise _BadHeaderError(
                    f"its EXIF orientation is {value}, so its boxes are ambiguous; turn the "
                    "pixels (mogrify -auto-orient) and label what is seen then"
                )


def _png_size(head: bytes, tail: bytes) -> tuple[int, int]:
    if len(head) < 24 or PNG_END not in tail:
        raise _BadHeaderError("it ends without the chunk IEND, so it is cut short")
    width, height = struct.unpack_from(">II", head, 16)
    if head[12:16] != b"IHDR" or not width or not height:
        raise _BadHeaderError("its first chunk is no valid IHDR")
    return width, height


def _tail(file: int, num_bytes: int, *, after: int) -> bytes:
    start = max(after, num_bytes - TAIL_BYTES)
    return os.pread(file, num_bytes - start, start)
