from pathlib import Path

import cv2
import pytest

from stages.detectnet.figures import draw_sensitivity
from stages.detectnet.sensitivity import Sensitivity

GONE = Sensitivity("conv1", 16, 0.5, 8, 0.2, 0.1, 0.2, 0.4, 0.5)
BETTER = Sensitivity("block_1a_conv_1", 16, 0.5, 8, 0.1, 0.2, 0.5, 0.95, -0.05)
KEPT = Sensitivity("block_1a_conv_2+block_1a_conv_shortcut", 16, 0.5, 16, 0.0, 0.0, 0.5, 0.9, 0.0)
BLIND = GONE._replace(ap=0.0, ap50=0.0, ap50_drop=0.0)


@pytest.mark.parametrize(
    "rows", [[GONE, BETTER, KEPT], [KEPT], [BLIND]], ids=["usual", "nothing to prune", "blind"]
)
def test_equal_rows_give_equal_bytes(tmp_path: Path, rows: list[Sensitivity]):
    for name in ("first.png", "second.png"):
        draw_sensitivity(tmp_path / name, rows, num_images=4)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_the_picture_grows_with_the_groups_and_the_colours_follow_the_loss(tmp_path: Path):
    heights = []
    for count in (2, 12):
        rows = [GONE._replace(convolutions=f"conv{n}") for n in range(count)]
        draw_sensitivity(tmp_path / "s.png", rows, num_images=4)
        heights.append(cv2.imread(str(tmp_path / "s.png")).shape[0])
    assert heights[1] > heights[0] + 300
    for row, is_red in ((GONE, True), (BETTER, False)):
        draw_sensitivity(tmp_path / "s.png", [row], num_images=4)
        image_bgr = cv2.imread(str(tmp_path / "s.png")).astype(int)
        reddest = (image_bgr[..., 2] - image_bgr[..., 0]).max()
        assert (reddest > 100) == is_red
