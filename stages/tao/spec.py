"""The specs that TAO reads, rendered from the values that the open backend uses.

Three files: of `dataset_convert` (DatasetExportConfig), of train, evaluate, prune's export and
retrain (Experiment), and of `inference` (Inference); protobuf text of
nvidia_tao_tf1/cv/detectnet_v2/proto (github.com/NVIDIA/tao_tensorflow1_backend). Fields that
proto3 reads as 0 or false when they are absent are left out where the demo leaves them out.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.core.cluster import Postprocess
from deploy.core.grid import Grid
from stages.detectnet.config import AugmentConfig, FitConfig
from stages.tao.config import TaoConfig
from stages.tao.generations import Generation
from stages.tao.prototext import Name, keyed, render

CLASS = "hand"
IMAGES, LABELS = "images", "labels"
EXTENSION = "jpg"
LARGEST = 9999
# `partition_mode: random` with nothing for validation puts every frame into one of two folds (the
# empty one does not count, so it is the first): each side of the split has TFRecords of its own.
NUM_FOLDS = 2
# TAO 5 logs scalars ten times an epoch, and refuses to train with fewer steps than that.
SCALARS_PER_EPOCH = 10
# Mixed-precision cost scaling: off, but the validator wants its numbers above 0.
COST_SCALING = {"initial_exponent": 20.0, "increment": 0.005, "decrement": 1.0}
RED, GREEN = {"R": 255, "G": 0, "B": 0}, {"R": 0, "G": 255, "B": 0}


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


@dataclass(frozen=True)
class Source:
    """Where one side of the split lies in the container: TFRecords' prefix and KITTI folder."""

    tfrecords: str
    folder: str
    num_frames: int

    @property
    def pattern(self) -> str:
        """The glob of the TFRecords."""
        return f"{self.tfrecords}-fold-*"


def render_tfrecords(source: Source, config: TaoConfig) -> str:
    """Return the spec of dataset_convert for one side of the split."""
    kitti = {
        "root_directory_path": source.folder,
        "image_dir_name": IMAGES,
        "label_dir_name": LABELS,
        "image_extension": f".{EXTENSION}",
        "partition_mode": "random",
        "num_partitions": NUM_FOLDS,
        "val_split": 0,
        # No shard may be empty: the loader looks into any of them to learn the fields.
        "num_shards": max(1, min(config.num_shards, source.num_frames)),
    }
    return render({"kitti_config": kitti, "image_directory_path": source.folder})


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
                    CLASS, {"clustering_config": _clustering(postprocess, config, generation)}
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


def render_inference(
    model: str,
    input_wh: tuple[int, int],
    postprocess: Postprocess,
    config: TaoConfig,
    generation: Generation,
    *,
    batch_size: int = 16,
) -> str:
    """Return the spec of `inference`, which writes KITTI labels; model: path in the container."""
    width, height = input_wh
    handlers = [
        keyed(name, _handler(postprocess, config, generation, colour))
        for name, colour in ((CLASS, GREEN), ("default", RED))
    ]
    return render(
        {
            "inferencer_config": {
                "target_classes": [CLASS],
                "image_width": width,
                "image_height": height,
                "image_channels": 3,
                "batch_size": batch_size,
                "gpu_index": config.gpu_indices[0] if config.gpu_indices else 0,
                "tlt_config": {"model": model},
            },
            "bbox_handler_config": {
                "kitti_dump": True,
                "disable_overlay": False,
                "overlay_linewidth": 2,
                "classwise_bbox_handler_config": handlers,
            },
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


def _clustering(
    postprocess: Postprocess, config: TaoConfig, generation: Generation
) -> dict[str, Any]:
    shared = {
        "coverage_threshold": postprocess.coverage_threshold,
        "minimum_bounding_box_height": round(postprocess.minimum_box_height),
    }
    if postprocess.cluster == "nms":
        return {
            "clustering_algorithm": Name("NMS"),
            "nms_confidence_threshold": postprocess.confidence_threshold,
            "nms_iou_threshold": postprocess.iou_threshold,
            **shared,
        }
    # From 5.0 on an integer, which the validator bounds to 0 and 1.
    samples = (
        min(int(postprocess.min_samples), 1)
        if generation.min_samples_is_int
        else config.float_min_samples
    )
    return {
        "clustering_algorithm": Name("DBSCAN"),
        "dbscan_confidence_threshold": postprocess.confidence_threshold,
        "dbscan_eps": postprocess.eps,
        "dbscan_min_samples": samples,
        **shared,
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


def _handler(
    postprocess: Postprocess,
    config: TaoConfig,
    generation: Generation,
    colour: Mapping[str, int],
) -> dict[str, Any]:
    return {
        "confidence_model": "aggregate_cov",
        "output_map": CLASS,
        "bbox_color": colour,
        "clustering_config": _clustering(postprocess, config, generation),
    }
