"""Impossible settings are refused with the name, the value and what was expected."""

import pytest

from stages.datasets.render.config import RenderConfig


def test_default_is_valid() -> None:
    assert RenderConfig().image_wh == [768, 432]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_wh": [960]}, "image_wh is"),
        ({"image_wh": [960, 10]}, "image_wh is"),
        ({"val_videos": -1}, "val_videos is -1"),
        ({"frames_per_video": 0}, "frames_per_video is 0"),
        ({"min_hand_height": 0.5}, "hand heights are"),
        ({"person_frac": 1.5}, "person_frac is 1.5"),
        ({"table_work_frac": -0.1}, "table_work_frac is -0.1"),
        ({"jpeg_quality": 0}, "jpeg_quality is 0"),
    ],
)
def test_impossible_value_is_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RenderConfig(**change)
