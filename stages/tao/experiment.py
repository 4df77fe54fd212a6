"""The spec of train, retrain, evaluate and export: NVIDIA's message `Experiment`.

Every value comes from the sections that the open backend reads; `backend.tao` has the rest. Fields
that proto3 reads as 0 or false when they are absent are left out where the demo leaves them out.
"""

import math
from dataclasses import dataclass
from typing import Any

from deploy.core.cluster import Postprocess
from deploy.core.grid import Grid
from stages.detectnet.config import AugmentConfig, FitConfig
from stages.tao.config import TaoConfig
from stages.tao.generations import Generation
from stages.tao.prototext import Name, keyed, render
from stages.tao.spec import CLASS, EXTENSION, Source, render_clustering

LARGEST = 9999
# TAO 5 logs scalars ten times an epoch, and refuses to train with fewer steps than that.
SCALARS_PER_EPOCH = 10
# Mixed-precision cost scaling: off, but the validator wants its numbers above 0.
COST_SCALING = {"initial_exponent": 20.0, "increment": 0.005, "decrement": 1.0}


@dataclass(frozen=True)
class Network:
    """The network of a spec; pretrained: path in the container, or None for random weights.

    is_graph: the file brings the graph too (a pruned network), not the weights alone.
    """

    num_layers: int
    input_wh: tuple[int, int]
    all_projections: bool
    pretrained: str | None = None
    is_graph: bool = False


def render_experiment(
    network: Network,
    fit: FitConfig,
    postprocess: Postprocess,
    config: TaoConfig,
    generation: Generation,
    *,
    train: Source,
    validation: Source,
    quantize: bool = False,
) -> str:
    """Return the spec of train, or with quantize that of quantization-aware retraining."""
    return render(
        {
            "random_seed": fit.seed,
            "dataset_config": _dataset(train, validation),
            "augmentation_config": _augmentation(network, fit.augment, config),
            "postprocessing_config": {
                "target_class_config": keyed(
                    CLASS,
                    {"clustering_config": render_clustering(postprocess, config, generation)},
                )
            },
            "model_config": _model(network),
            "evaluation_config": _evaluation(fit, config),
            "cost_function_config": _cost_function(fit),
            "training_config": {
                **_training(fit, config, quantize=quantize),
                "visualizer": _visualizer(train, fit, config, generation),
            },
            "bbox_rasterizer_config": _rasterizer(fit),
        }
    )


def _dataset(train: Source, validation: Source) -> dict[str, Any]:
    return {
        "data_sources": _source(train),
        "image_extension": EXTENSION,
        "target_class_mapping": keyed(CLASS, CLASS),
        "validation_data_source": _source(validation),
    }


def _source(source: Source) -> dict[str, str]:
    return {"tfrecords_path": source.pattern, "image_directory_path": source.folder}


def _augmentation(network: Network, augment: AugmentConfig, config: TaoConfig) -> dict[str, Any]:
    width, height = network.input_wh
    min_width, min_height = (float(value) for value in config.minimum_bbox_wh)
    preprocessing = {
        "output_image_width": width,
        "output_image_height": height,
        "output_image_channel": 3,
        "min_bbox_width": min_width,
        "min_bbox_height": min_height,
        "enable_auto_resize": True if config.frames == "auto_resize" else None,
    }
    if not augment.enabled:
        # An absent zoom is 0, which is no zoom at all: TAO divides by it.
        return {
            "preprocessing": preprocessing,
            "spatial_augmentation": {"zoom_min": 1.0, "zoom_max": 1.0},
            "color_augmentation": {"contrast_center": augment.contrast_center},
        }
    return {
        "preprocessing": preprocessing,
        "spatial_augmentation": _spatial(augment, config),
        "color_augmentation": _colour(augment),
    }


def _spatial(augment: AugmentConfig, config: TaoConfig) -> dict[str, Any]:
    turns = augment.rotate_max_rad > 0.0
    return {
        "hflip_probability": augment.hflip_probability,
        "vflip_probability": config.vflip_probability,
        "zoom_min": augment.zoom_min,
        "zoom_max": augment.zoom_max,
        "translate_max_x": float(augment.translate_max_x),
        "translate_max_y": float(augment.translate_max_y),
        "rotate_rad_max": augment.rotate_max_rad if turns else None,
        "rotate_probability": augment.rotate_probability if turns else None,
    }


def _colour(augment: AugmentConfig) -> dict[str, Any]:
    # TAO draws the brightness from a normal distribution that ends at twice this deviation.
    deviation = augment.brightness_scale_max / 2.0
    return {
        "color_shift_stddev": deviation or None,
        "hue_rotation_max": augment.hue_rotation_max,
        "saturation_shift_max": augment.saturation_shift_max,
        "contrast_scale_max": augment.contrast_scale_max,
        "contrast_center": augment.contrast_center,
    }


def _model(network: Network) -> dict[str, Any]:
    grid = Grid()
    return {
        "pretrained_model_file": network.pretrained,
        "load_graph": True if network.is_graph else None,
        "arch": "resnet",
        "num_layers": network.num_layers,
        "use_batch_norm": True,
        "all_projections": True if network.all_projections else None,
        "objective_set": {"bbox": {"scale": grid.scale, "offset": grid.offset}, "cov": {}},
        "training_precision": {"backend_floatx": Name("FLOAT32")},
    }


def _evaluation(fit: FitConfig, config: TaoConfig) -> dict[str, Any]:
    min_width, min_height = config.evaluation_minimum_wh
    box = {
        "minimum_height": min_height,
        "maximum_height": LARGEST,
        "minimum_width": min_width,
        "maximum_width": LARGEST,
    }
    return {
        # 0 is "never" in train.validate_every_epochs, but the last epoch is validated anyway.
        "validation_period_during_training": fit.validate_every_epochs or fit.epochs,
        "first_validation_epoch": min(config.first_validation_epoch, fit.epochs),
        "minimum_detection_ground_truth_overlap": keyed(CLASS, config.overlap),
        "evaluation_box_config": keyed(CLASS, box),
        "average_precision_mode": Name("INTEGRATE"),
    }


def _cost_function(fit: FitConfig) -> dict[str, Any]:
    loss = fit.loss
    objectives = [
        {"name": name, "initial_weight": initial, "weight_target": target}
        for name, initial, target in (
            ("cov", loss.coverage_weight, loss.coverage_weight_target),
            ("bbox", loss.bbox_weight, loss.bbox_weight_target),
        )
    ]
    return {
        "target_classes": {
            "name": CLASS,
            "class_weight": 1.0,
            "coverage_foreground_weight": loss.coverage_foreground_weight,
            "objectives": objectives,
        },
        "enable_autoweighting": loss.autoweighting,
        "max_objective_weight": loss.maximum_weight,
        "min_objective_weight": loss.minimum_weight,
    }


def _training(fit: FitConfig, config: TaoConfig, *, quantize: bool) -> dict[str, Any]:
    schedule = {
        "min_learning_rate": fit.schedule.minimum_learning_rate,
        "max_learning_rate": fit.learning_rate,
        "soft_start": fit.schedule.soft_start,
        "annealing": fit.schedule.annealing,
    }
    adam = {
        "epsilon": fit.optimizer.epsilon,
        "beta1": fit.optimizer.beta1,
        "beta2": fit.optimizer.beta2,
    }
    return {
        "batch_size_per_gpu": fit.batch_size,
        "num_epochs": fit.epochs,
        "learning_rate": {"soft_start_annealing_schedule": schedule},
        "regularizer": {"type": Name("L1"), "weight": fit.loss.regularizer_l1},
        "optimizer": {"adam": adam},
        "cost_scaling": COST_SCALING,
        "checkpoint_interval": config.checkpoint_interval_epochs,
        "enable_qat": True if quantize else None,
    }


def _visualizer(
    train: Source, fit: FitConfig, config: TaoConfig, generation: Generation
) -> dict[str, Any] | None:
    steps = math.ceil(math.ceil(train.num_frames / fit.batch_size) / config.gpus)
    if steps >= SCALARS_PER_EPOCH or not generation.is_open:
        return None
    return {"scalar_logging_frequency": max(1, steps)}


def _rasterizer(fit: FitConfig) -> dict[str, Any]:
    targets = fit.targets
    ellipse = {
        "cov_center_x": targets.cov_center_x,
        "cov_center_y": targets.cov_center_y,
        "cov_radius_x": targets.cov_radius_x,
        "cov_radius_y": targets.cov_radius_y,
        "bbox_min_radius": targets.bbox_min_radius,
    }
    return {
        "target_class_config": keyed(CLASS, ellipse),
        "deadzone_radius": targets.deadzone_radius,
    }
