"""What TAO cannot do: settings of the open backend that would be dropped silently.

Every list names a setting and the only value that TAO's own behaviour has.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from deploy.core.cluster import Postprocess
from stages.detectnet.compression_config import PruneConfig, RetrainConfig
from stages.detectnet.config import FitConfig, ModelConfig
from stages.tao.errors import TaoError

WIDTH = 64
FIT = {
    "ema_decay": 0.0,
    "freeze_batch_norm": False,
    "select": "last",
    "optimizer.name": "adam",
    "optimizer.weight_decay": 0.0,
    "optimizer.gradient_clip_norm": 0.0,
    "schedule.name": "soft_start_annealing",
    "loss.coverage": "tao",
    "loss.coverage_target": "ellipse",
    "loss.bbox": "tao",
    "augment.clip_boxes": False,
    "augment.rotated_boxes": "corners",
    "augment.stretch_max": 0.0,
    "augment.gray_probability": 0.0,
    "augment.mosaic_probability": 0.0,
    "augment.paste_probability": 0.0,
}
RETRAIN = {
    "weights": "pruned",
    "float_fit": None,
    "activation": "relu6",
    "batch_norm_images": 0,
    "quantize_heads": False,
    "fold_batch_norm": False,
    "placement": "tao",
    "weight_axis": "tensor",
    "range_rule": "moving_average",
    "range_decay": 0.999,
    "distill_weight": 0.0,
    "distill_fade_frac": 0.0,
}
PRUNE = {"params_frac": None, "flops": None, "importance": "l2", "min_frac": 0.0}
# The validator of TAO's specs bounds these.
FRACTIONS = ("coverage_threshold", "eps", "iou_threshold", "confidence_threshold")
NAMED = 6


def check_train(model: ModelConfig, fit: FitConfig, postprocess: Postprocess) -> None:
    """Raise TaoError naming what of model, train and postprocess TAO has no word for."""
    _raise_for(
        [
            *_compare("model", model, {"width": WIDTH}),
            *_compare("train", fit, FIT),
            *_check_postprocess(postprocess),
        ]
    )


def check_prune(config: PruneConfig) -> None:
    """Raise TaoError naming what of prune TAO has no word for."""
    _raise_for(list(_compare("prune", config, PRUNE)))


def check_retrain(config: RetrainConfig, postprocess: Postprocess) -> None:
    """Raise TaoError naming what of retrain and postprocess TAO has no word for."""
    _raise_for(
        [
            *_compare("retrain", config, RETRAIN),
            *_compare("retrain.qat_fit", config.qat_fit, FIT),
            *_check_postprocess(postprocess),
        ]
    )


def _compare(prefix: str, config: object, wanted: Mapping[str, Any]) -> Iterator[str]:
    for path, value in wanted.items():
        seen: Any = config
        for part in path.split("."):
            seen = getattr(seen, part)
        if seen != value:
            shown = "set" if value is None and not isinstance(seen, int | float) else seen
            yield f"{prefix}.{path} is {shown} (TAO: {'null' if value is None else value})"


def _check_postprocess(postprocess: Postprocess) -> Iterator[str]:
    for name in FRACTIONS:
        if not 0.0 <= getattr(postprocess, name) <= 1.0:
            yield f"postprocess.{name} is {getattr(postprocess, name)} (TAO: 0 to 1)"
    if postprocess.inner_confidence > 0.0:
        yield f"postprocess.inner_confidence is {postprocess.inner_confidence} (TAO: 0.0)"
    if postprocess.cluster == "dbscan" and postprocess.min_samples > 1.0:
        yield f"postprocess.min_samples is {postprocess.min_samples} (TAO: at most 1)"


def _raise_for(faults: list[str]) -> None:
    if not faults:
        return
    more = f" and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    raise TaoError(
        f"backend=tao cannot do: {', '.join(faults[:NAMED])}{more}; leave model, train, prune, "
        "retrain and postprocess to it: dvc exp run -S backend=tao (with null for them in "
        "params.yaml), or change these values"
    )
