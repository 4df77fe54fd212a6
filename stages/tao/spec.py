"""The specs that TAO reads, rendered from the values that the open backend uses.

Here those of `dataset_convert` (message DatasetExportConfig) and `inference` (Inference), and what
they share with that of all other sub-tasks, which experiment.py renders. Protobuf text of
nvidia_tao_tf1/cv/detectnet_v2/proto (github.com/NVIDIA/tao_tensorflow1_backend).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.core.cluster import Postprocess
from stages.tao.config import TaoConfig
from stages.tao.generations import Generation
from stages.tao.prototext import Name, keyed, render

CLASS = "hand"
IMAGES, LABELS = "images", "labels"
EXTENSION = "jpg"
# `partition_mode: random` with nothing for validation puts every frame into one of two folds (the
# empty one does not count, so it is the first): each side of the split has TFRecords of its own.
NUM_FOLDS = 2
RED, GREEN = {"R": 255, "G": 0, "B": 0}, {"R": 0, "G": 255, "B": 0}


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


def render_clustering(
    postprocess: Postprocess, config: TaoConfig, generation: Generation
) -> dict[str, Any]:
    """Return the message ClusteringConfig: from output maps to boxes."""
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
        "clustering_config": render_clustering(postprocess, config, generation),
    }
