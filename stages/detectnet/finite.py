"""What a training says whose loss is no number any more: the step, its frames, and what to try."""

from collections.abc import Sequence

import torch

from stages.detectnet.errors import DetectNetError

NAMED_FRAMES = 4


def check_finite(
    losses: torch.Tensor,
    order: torch.Tensor,
    stems: Sequence[str],
    *,
    epoch: int,
    learning_rate: float,
) -> None:
    """Raise DetectNetError for the first step of losses (steps, terms) that is no finite number.

    order: (steps, batch), the indices in stems of the frames of each step. epoch: from 0; its
    predecessor's checkpoint stays, for it is written after this.
    """
    wrong = (~losses.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if not wrong:
        return
    frames = [stems[index] for index in order[wrong[0]].tolist()]
    more = f" and {len(frames) - NAMED_FRAMES} more" if len(frames) > NAMED_FRAMES else ""
    kept = f"the checkpoint of epoch {epoch} is kept" if epoch else "no epoch was finished"
    raise DetectNetError(
        f"the loss became {losses[wrong[0], 0].item()} at step {wrong[0] + 1} of epoch "
        f"{epoch + 1}, with the frames {', '.join(frames[:NAMED_FRAMES])}{more}; {kept}; look at "
        f"those frames, lower learning_rate (now {learning_rate:g}) or set precision: 32-true"
    )
