import pytest
import torch

from stages.detectnet.errors import DetectNetError
from stages.detectnet.finite import check_finite

STEMS = [f"frame_{number}" for number in range(12)]
ORDER = torch.arange(12).reshape(2, 6)


def check(losses: list[list[float]], *, epoch: int = 1) -> None:
    check_finite(torch.tensor(losses), ORDER, STEMS, epoch=epoch, learning_rate=0.01)


def test_passes_numbers():
    check([[1.0, 0.5, 0.5], [1e30, 0.0, -1.0]])


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("term", [0, 1, 2])
def test_names_the_first_wrong_step_and_its_frames(wrong, term):
    losses = [[1.0, 0.5, 0.5], [1.0, 0.5, 0.5]]
    losses[1][term] = wrong

    with pytest.raises(DetectNetError) as error:
        check(losses)

    assert "at step 2 of epoch 2" in str(error.value)
    assert "frame_6, frame_7, frame_8, frame_9 and 2 more" in str(error.value)
    assert "the checkpoint of epoch 1 is kept" in str(error.value)
    assert "learning_rate (now 0.01)" in str(error.value)


def test_says_when_no_checkpoint_is_there():
    with pytest.raises(DetectNetError, match=r"at step 1 of epoch 1, .*; no epoch was finished;"):
        check([[float("nan")] * 3, [1.0] * 3], epoch=0)
