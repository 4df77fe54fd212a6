"""Feed a frame, or the regions of one, to an engine: on the GPU where the engine can, else here.

    wait = feed(engine, image)
    ...
    outputs = wait()

An engine with `takes_frames` gets the frame as it is, and its kernel makes the input; any other
gets the tensor that image_to_tensor and crop_regions make.
"""

import functools
from typing import Any, Callable, Dict, Optional

import numpy as np

from deploy.core.preprocess import image_to_tensor, images_to_batch
from deploy.core.roi import crop_regions

Outputs = Dict[str, np.ndarray]


def feed(
    engine: Any, image: np.ndarray, regions: Optional[np.ndarray] = None
) -> Callable[[], Outputs]:
    """Start with a frame (H, W, 3) uint8 BGR; return what waits for the outputs (N, ...) by name.

    regions: (N, 4), N > 0, which are cut out; without them the whole frame is the one input.
    """
    if getattr(engine, "takes_frames", False):
        engine.put_frame(image, regions)
        return engine.run_frame
    model = engine.model
    rules = model.preprocess._asdict()
    if regions is None:
        kept = _kept_input(engine)
        batch = image_to_tensor(image, input_wh=model.input_wh, out=kept[0], **rules)[None]
    else:
        crops = crop_regions(image, regions, size_wh=model.input_wh)
        batch = images_to_batch(list(crops), input_wh=model.input_wh, **rules)
    return functools.partial(engine.infer, batch)


def _kept_input(engine: Any) -> np.ndarray:
    """The engine's own input of one frame (1, 3, H, W): fresh memory costs half a millisecond."""
    kept = getattr(engine, "kept_input", None)
    if kept is None:
        kept = engine.kept_input = np.empty((1,) + tuple(engine.model.input_shape), np.float32)
    return kept
