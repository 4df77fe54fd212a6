"""The drawn maps hold the hands that are asked for, and the table has its rows."""

import numpy as np
import pytest

from benchmarks import host
from deploy.core.cluster import postprocess_maps
from deploy.core.strongest import FEW_CELLS


@pytest.mark.parametrize("num_hands", [0, 1, 5, host.MAX_HANDS])
@pytest.mark.parametrize("number", [0, host.WAY, 3 * host.WAY])
def test_drawn_maps_hold_the_hands_where_they_are_drawn(num_hands: int, number: int) -> None:
    maps = host.draw_maps(num_hands, number)
    found = postprocess_maps(
        maps["cover"][0],
        maps["boxes"][0],
        host.DETECTOR.grid,
        host.CONSTANTS,
        input_wh=host.INPUT_WH,
        image_wh=host.INPUT_WH,
        apply_confidence_threshold=True,
    )
    assert len(found.xyxy) == num_hands
    if num_hands:
        np.testing.assert_allclose(found.xyxy[:, 2:] - found.xyxy[:, :2], host.EXTENT, atol=1e-3)
        first = [20 + abs(number % (2 * host.WAY) - host.WAY), 10]
        np.testing.assert_allclose(found.xyxy[:, :2].min(axis=0), first, atol=1e-3)


def test_a_hand_has_about_ten_confident_cells() -> None:
    counts = [
        int((host.draw_maps(1, number)["cover"] >= host.CONSTANTS.confidence_threshold).sum())
        for number in range(2 * host.WAY)
    ]
    assert 8 <= min(counts) <= max(counts) <= 14
    assert 3 * max(counts) <= FEW_CELLS


def test_table_has_a_row_for_each_step_and_a_column_for_each_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert host.main(["--hands", "0", "2", "--frames", "60"]) == 0
    lines = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()]
    names = [*host.STEPS, "process", "process, no gestures", "run_source"]
    assert [line[0].strip() for line in lines[2:]] == names
    assert [cell.strip() for cell in lines[0]] == ["step", "0 hands", "2 hands"]
    assert all(float(cell) > 0 for line in lines[2:] for cell in line[1:])


def test_more_hands_than_there_is_room_for_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        host.main(["--hands", "16"])
    assert "expected 0 to 15" in capsys.readouterr().err
