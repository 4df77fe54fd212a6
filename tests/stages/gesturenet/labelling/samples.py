"""Folders of crops for the tests of the labelling tool."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from stages.gesturenet.labelling.journal import (
    PICTURES,
    Crop,
    Settings,
    open_journal,
    read_journal,
)
from stages.gesturenet.labelling.server import Server, Sorting

CLASSES = ("fist", "stop", "ok")
SETTINGS = Settings(CLASSES, {"confidence": 1.0, "size_wh": (16, 16)})


def make_crop(name: str, suggestion: str | None = "fist") -> Crop:
    sure = None if suggestion is None else 0.75
    return Crop(name, (4.0, 4.0, 12.0, 12.0), (2.0, 2.0, 14.0, 14.0), 1.5, suggestion, sure)


def write_crops(out: Path, *, num: int = 4) -> list[str]:
    """Write a folder as the tool would: one crop a frame, suggested classes in turn."""
    names = []
    with open_journal(out, SETTINGS) as journal:
        journal.add_source("/videos/clip.mp4", "clip")
        for index in range(num):
            name = f"clip_{index:06d}-0.jpg"
            picture = np.full((16, 16, 3), 10 * index % 256, np.uint8)
            assert cv2.imwrite(str(out / PICTURES / name), picture)
            journal.add_frame("clip", f"{index:06d}", [make_crop(name, CLASSES[index % 3])])
            names.append(name)
    return names


@contextlib.contextmanager
def serving(out: Path) -> Iterator[Server]:
    """Serve a folder of crops from a thread until the block ends."""
    sorting = Sorting(out, read_journal(out), folder=out / "classes", command="run")
    with Server(sorting, port=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
