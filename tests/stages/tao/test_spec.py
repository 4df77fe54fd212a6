"""Rendered specs, parsed with NVIDIA's definitions and compared field by field with the demo's."""

import dataclasses
from typing import Any

import pytest
from google.protobuf import json_format, text_format

from deploy.core.cluster import Postprocess
from stages._config import section_of
from stages.detectnet.compression_config import RetrainConfig
from stages.detectnet.config import FitConfig, TrainConfig
from stages.tao.config import GENERATIONS, TaoConfig
from stages.tao.experiment import Network, render_experiment
from stages.tao.generations import find_generation
from stages.tao.spec import Source, render_inference, render_tfrecords
from tests.stages.tao.definitions import parse
from tests.stages.tao.project import preset

TRAIN = Source("/workspace/hands/tfrecords/train", "/workspace/hands/sources/train", 1000)
VAL = Source("/workspace/hands/tfrecords/val", "/workspace/hands/sources/val", 100)
DEMO_WH = (1280, 720)
POSTPROCESS = Postprocess(**preset("postprocess/tao"))
# The demo's resnet34 specs (train and retrain with QAT), without paths: NVIDIA's notebook
# "gesture recognition with TLT 3.0". Fields that it leaves out are absent.
DEMO = {
    "randomSeed": 42,
    "augmentationConfig": {
        "preprocessing": {
            "outputImageWidth": 1280,
            "outputImageHeight": 720,
            "outputImageChannel": 3,
            "minBboxWidth": 10.0,
            "minBboxHeight": 20.0,
        },
        "spatialAugmentation": {
            "hflipProbability": 0.5,
            "vflipProbability": 0.3,
            "zoomMin": 1.0,
            "zoomMax": 1.0,
            "translateMaxX": 8.0,
            "translateMaxY": 8.0,
        },
        "colorAugmentation": {
            "hueRotationMax": 25.0,
            "saturationShiftMax": 0.2,
            "contrastScaleMax": 0.1,
            "contrastCenter": 0.5,
        },
    },
    "evaluationConfig": {
        "validationPeriodDuringTraining": 10,
        "firstValidationEpoch": 30,
        "minimumDetectionGroundTruthOverlap": [{"key": "hand", "value": 0.7}],
        "evaluationBoxConfig": [
            {
                "key": "hand",
                "value": {
                    "minimumHeight": 20,
                    "maximumHeight": 9999,
                    "minimumWidth": 10,
                    "maximumWidth": 9999,
                },
            }
        ],
        "averagePrecisionMode": "INTEGRATE",
    },
    "costFunctionConfig": {
        "targetClasses": [
            {
                "name": "hand",
                "classWeight": 1.0,
                "coverageForegroundWeight": 0.05,
                "objectives": [
                    {"name": "cov", "initialWeight": 1.0, "weightTarget": 1.0},
                    {"name": "bbox", "initialWeight": 10.0, "weightTarget": 10.0},
                ],
            }
        ],
        "enableAutoweighting": True,
        "maxObjectiveWeight": 0.9999,
        "minObjectiveWeight": 0.0001,
    },
    "trainingConfig": {
        "batchSizePerGpu": 4,
        "numEpochs": 120,
        "learningRate": {
            "softStartAnnealingSchedule": {
                "minLearningRate": 5e-06,
                "maxLearningRate": 0.0005,
                "softStart": 0.1,
                "annealing": 0.7,
            }
        },
        "regularizer": {"type": "L1", "weight": 3e-09},
        "optimizer": {"adam": {"epsilon": 1e-08, "beta1": 0.9, "beta2": 0.999}},
        "costScaling": {"initialExponent": 20.0, "increment": 0.005, "decrement": 1.0},
        "checkpointInterval": 10,
    },
    "bboxRasterizerConfig": {
        "targetClassConfig": [
            {
                "key": "hand",
                "value": {
                    "covCenterX": 0.5,
                    "covCenterY": 0.5,
                    "covRadiusX": 0.4,
                    "covRadiusY": 0.4,
                    "bboxMinRadius": 1.0,
                },
            }
        ],
        "deadzoneRadius": 0.4,
    },
}
CLUSTERING = {
    "dbscanConfidenceThreshold": 0.9,
    "coverageThreshold": 0.005,
    "dbscanEps": 0.2,
    "minimumBoundingBoxHeight": 20,
}


def demo_fit() -> FitConfig:
    return section_of({"train": preset("train/tao")}, TrainConfig)


def experiment(
    generation: str = "tao5",
    *,
    fit: FitConfig | None = None,
    postprocess: Postprocess = POSTPROCESS,
    quantize: bool = False,
    **tao: Any,
) -> dict[str, Any]:
    """Render a spec and return what NVIDIA's parser reads."""
    row = find_generation(generation)
    pretrained = f"/workspace/hands/models/network{row.model_suffix}"
    text = render_experiment(
        Network(34, DEMO_WH, True, pretrained, is_graph=quantize),
        fit or demo_fit(),
        postprocess,
        TaoConfig(generation=generation, **tao),
        row,
        train=TRAIN,
        validation=VAL,
        quantize=quantize,
    )
    return json_format.MessageToDict(parse(text, "Experiment", is_open=row.is_open))


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_generation_reads_the_demos_values(generation: str) -> None:
    read = experiment(generation)
    assert {name: read[name] for name in DEMO} == DEMO
    assert read["modelConfig"] == {
        "pretrainedModelFile": read["modelConfig"]["pretrainedModelFile"],
        "arch": "resnet",
        "numLayers": 34,
        "useBatchNorm": True,
        "allProjections": True,
        "objectiveSet": {"bbox": {"scale": 35.0, "offset": 0.5}, "cov": {}},
        "trainingPrecision": {},  # FLOAT32 is the enum's 0
    }
    samples = 1 if find_generation(generation).is_open else 0.05
    (entry,) = read["postprocessingConfig"]["targetClassConfig"]
    clustering = {**CLUSTERING, "dbscanMinSamples": samples}
    assert entry == {"key": "hand", "value": {"clusteringConfig": clustering}}


def test_the_sides_of_the_split_are_tao_s_two_sources() -> None:
    dataset = experiment()["datasetConfig"]
    fold = "-fold-*"
    assert dataset == {
        "dataSources": [
            {"tfrecordsPath": TRAIN.tfrecords + fold, "imageDirectoryPath": TRAIN.folder}
        ],
        "imageExtension": "jpg",
        "targetClassMapping": [{"key": "hand", "value": "hand"}],
        "validationDataSource": {
            "tfrecordsPath": VAL.tfrecords + fold,
            "imageDirectoryPath": VAL.folder,
        },
    }


def test_retraining_loads_the_graph_and_quantizes() -> None:
    retrain = section_of({"retrain": preset("retrain/tao")}, RetrainConfig)
    read = experiment(fit=retrain.qat_fit, quantize=True)
    assert read["modelConfig"]["loadGraph"] is True
    assert read["trainingConfig"] == {**DEMO["trainingConfig"], "enableQat": True}  # type: ignore[dict-item]
    assert "loadGraph" not in experiment()["modelConfig"]


def test_a_float_is_refused_from_tao_5_on_as_nvidia_refuses_the_demos_spec() -> None:
    row = find_generation("tao4")
    text = render_experiment(
        Network(34, DEMO_WH, True),
        demo_fit(),
        POSTPROCESS,
        TaoConfig(generation="tao4"),
        row,
        train=TRAIN,
        validation=VAL,
    )
    with pytest.raises(text_format.ParseError, match="Couldn't parse integer"):
        parse(text, "Experiment", is_open=True)


def test_greedy_suppression_becomes_nms() -> None:
    other = Postprocess(**preset("postprocess/default"))
    (entry,) = experiment(postprocess=other)["postprocessingConfig"]["targetClassConfig"]
    assert entry["value"]["clusteringConfig"] == {
        "clusteringAlgorithm": "NMS",
        "nmsConfidenceThreshold": 0.8,
        "nmsIouThreshold": 0.6,
        "coverageThreshold": 0.05,
        "minimumBoundingBoxHeight": 4,
    }


def test_without_augmentation_nothing_moves_and_the_zoom_stays_1() -> None:
    fit = demo_fit()
    still = dataclasses.replace(fit, augment=dataclasses.replace(fit.augment, enabled=False))
    read = experiment(fit=still)["augmentationConfig"]
    assert read["spatialAugmentation"] == {"zoomMin": 1.0, "zoomMax": 1.0}
    assert read["colorAugmentation"] == {"contrastCenter": 0.5}


def test_validation_comes_at_the_latest_with_the_last_epoch() -> None:
    fit = dataclasses.replace(demo_fit(), epochs=7, validate_every_epochs=0)
    evaluation = experiment(fit=fit)["evaluationConfig"]
    assert evaluation["firstValidationEpoch"] == evaluation["validationPeriodDuringTraining"] == 7


def test_auto_resize_is_tao_s_own_word() -> None:
    read = experiment(frames="auto_resize")["augmentationConfig"]["preprocessing"]
    assert read["enableAutoResize"] is True


def test_few_frames_have_no_empty_shard_and_few_steps_are_logged_less_often() -> None:
    few = Source(TRAIN.tfrecords, TRAIN.folder, 7)
    read = parse(render_tfrecords(few, TaoConfig()), "DatasetExportConfig")
    assert read.kitti_config.num_shards == 7  # type: ignore[attr-defined]
    text = render_experiment(
        Network(18, DEMO_WH, False),
        demo_fit(),
        POSTPROCESS,
        TaoConfig(),
        find_generation("tao5"),
        train=few,
        validation=few,
    )
    spec = parse(text, "Experiment")
    assert spec.training_config.visualizer.scalar_logging_frequency == 2  # type: ignore[attr-defined]
    assert "visualizer" not in experiment()["trainingConfig"]


def test_tfrecords_put_every_frame_into_one_fold() -> None:
    read = parse(render_tfrecords(TRAIN, TaoConfig()), "DatasetExportConfig")
    assert json_format.MessageToDict(read) == {
        "kittiConfig": {
            "rootDirectoryPath": TRAIN.folder,
            "imageDirName": "images",
            "labelDirName": "labels",
            "imageExtension": ".jpg",
            "partitionMode": "random",
            "numPartitions": 2,
            "numShards": 10,
        },
        "imageDirectoryPath": TRAIN.folder,
    }


@pytest.mark.parametrize("generation", GENERATIONS)
def test_inference_clusters_as_evaluation_does(generation: str) -> None:
    row = find_generation(generation)
    text = render_inference(
        "/workspace/hands/models/model.hdf5", DEMO_WH, POSTPROCESS, TaoConfig(), row
    )
    read = json_format.MessageToDict(parse(text, "Inference", is_open=row.is_open))
    assert read["inferencerConfig"] == {
        "targetClasses": ["hand"],
        "imageWidth": 1280,
        "imageHeight": 720,
        "imageChannels": 3,
        "batchSize": 16,
        "tltConfig": {"model": "/workspace/hands/models/model.hdf5"},
    }
    handlers = read["bboxHandlerConfig"]["classwiseBboxHandlerConfig"]
    assert [entry["key"] for entry in handlers] == ["hand", "default"]
    assert CLUSTERING.items() <= handlers[0]["value"]["clusteringConfig"].items()


def test_text_that_would_break_a_spec_is_refused() -> None:
    with pytest.raises(ValueError, match="printable"):
        render_tfrecords(Source("a", "b\nc", 1), TaoConfig())
