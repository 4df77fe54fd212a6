"""Average precision of a network on the validation split, by the same code as everywhere else."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from deploy.core.average_precision import evaluate_detections
from deploy.core.cluster import Postprocess, postprocess_maps
from deploy.core.grid import Grid
from stages.detectnet.augment import to_input
from stages.detectnet.data import Samples

BATCH_SIZE = 32


def validate(
    model: nn.Module,
    samples: Samples,
    postprocess: Postprocess,
    *,
    device: torch.device,
    batch_size: int = BATCH_SIZE,
) -> dict[str, float]:
    """Return ap, ap50 and ap75 on the samples, computed in float32.

    The model is put into evaluation mode and left there. batch_size: pictures at once; no
    activations are kept, so what training has room for has room here.
    """
    model.eval()
    predictions, truths = {}, {}
    maps = predict_maps(model, samples, device=device, batch_size=batch_size)
    for index, (coverage, bbox) in enumerate(maps):
        stem, image_wh = samples.stems[index], samples.image_wh[index]
        predictions[stem] = postprocess_maps(
            coverage,
            bbox,
            Grid(),
            postprocess,
            input_wh=samples.input_wh,
            image_wh=(int(image_wh[0]), int(image_wh[1])),
            apply_confidence_threshold=False,
        )
        truths[stem] = samples.image_boxes(index)
    metrics = evaluate_detections(
        predictions, truths, confidence_threshold=postprocess.confidence_threshold
    )
    return {"ap": metrics.ap, "ap50": metrics.ap50, "ap75": metrics.ap75}


@torch.inference_mode()
def predict_maps(
    model: nn.Module, samples: Samples, *, device: torch.device, batch_size: int = BATCH_SIZE
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield coverage (C, h, w) and bbox (4C, h, w) of each sample in order."""
    for start in range(0, len(samples), batch_size):
        images = torch.from_numpy(samples.images[start : start + batch_size]).to(device)
        coverage, bbox = model(to_input(images))
        yield from zip(coverage.cpu().numpy(), bbox.cpu().numpy(), strict=True)
