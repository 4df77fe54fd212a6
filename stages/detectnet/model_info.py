"""What model.json says of a detector, whichever backend made it: NVIDIA's tensors and geometry."""

from collections.abc import Mapping
from pathlib import Path

from deploy.core.cluster import Postprocess
from deploy.core.grid import Grid
from deploy.core.model_json import ModelInfo, add_sha256
from deploy.core.preprocess import Preprocess

INPUT, COVERAGE, BBOX = "input_1", "output_cov/Sigmoid", "output_bbox/BiasAdd"


def describe_detector(
    folder: Path,
    *,
    input_wh: tuple[int, int],
    files: Mapping[str, str],
    postprocess: Postprocess,
    versions: Mapping[str, str],
    num_classes: int = 1,
) -> ModelInfo:
    """Describe a detector of hands; `files` (name by role) must lie in `folder`."""
    grid = Grid()
    width, height = input_wh
    rows, columns = height // grid.stride, width // grid.stride
    info = ModelInfo(
        kind="detector",
        name="hand-detector",
        files=files,
        input_name=INPUT,
        input_shape=(3, height, width),
        outputs={
            COVERAGE: (num_classes, rows, columns),
            BBOX: (4 * num_classes, rows, columns),
        },
        preprocess=Preprocess(
            color="rgb", scale=1.0 / 255.0, offset=(0.0, 0.0, 0.0), resize="stretch"
        ),
        classes=("hand",),
        grid=grid,
        postprocess=postprocess,
        versions=versions,
    )
    return add_sha256(folder, info)
