"""A labelled folder that the tiny detector (tiny_models) solves: red squares and their boxes."""

import cv2

from deploy.core.kitti import format_labels, hand_label
from tests.deploy.tiny_models import draw_frame

# Corners are multiples of 64, so that a 128 pixel square covers 2 x 2 cells of the 160 x 96 input.
FRAMES = {
    "A_frame_0001": [(64, 64)],
    "A_frame_0002": [(64, 64), (320, 192)],
    "B_frame_0001": [],
    "B_frame_0002": [(448, 128)],
    "B_frame_0003": [(0, 0), (256, 256), (512, 0)],
}


def write_kitti_folder(folder, frames=None):
    """Write images/*.png and labels/*.txt below folder, one 128 pixel square per corner."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for stem, corners in (FRAMES if frames is None else frames).items():
        image = draw_frame([("fist", x, y) for x, y in corners])
        cv2.imwrite(str(folder / "images" / (stem + ".png")), image)
        labels = [hand_label([x, y, x + 128, y + 128]) for x, y in corners]
        (folder / "labels" / (stem + ".txt")).write_text(format_labels(labels))
    return folder
