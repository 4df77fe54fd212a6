"""Gather what benchmarks/tensorrt_gpu.py needs on a GPU machine without network, in one folder.

    python -m benchmarks.tensorrt_models --out .work/tensorrt-gpu \\
        --random resnet18 resnet34 gesture --clip-images FOLDER
    python -m benchmarks.tensorrt_models --out .work/tensorrt-gpu --model office=models/export \\
        --model models/gesture --kitti data/kitti --split data/split/test.txt

(minutes on 2 CPU cores.) OUT/models/NAME: copies of model folders, each with reference.npz, the
answers of ONNX Runtime; OUT/expected.json: ONNX Runtime's average precision of detectors on the
labelled frames, which are copied to OUT/images and OUT/labels; OUT/clip.mp4: a 1280x720 clip of
the pictures in a folder, over each of which the camera moves for a while; drawn without one.

"int8" in expected.json are ONNX Runtime's integer kernels, "int8_unfused" the Q/DQ file node by
node in floating point, which is what the file says: the kernels round where the file does not.

--random makes full networks of 960x544 (detectors) and 160x160 (gesture) with random weights of
few distinct values, which compress to a fifth: speed does not depend on the values, and outputs
can be compared; average precision wants trained ones. The coverage of such a detector is shifted
so that few cells of a frame find something, as in a trained one: post-processing else takes
longer than the network. Better, where a trained detector is at hand, pruned or not: --widen
resnet18=models/export puts it into the full network (widened.py).
"""

import argparse
import itertools
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import torch
from torch import nn

from benchmarks.runtime import FPS, draw_clip
from benchmarks.widened import read_weights, widen
from deploy.core.cluster import Postprocess
from deploy.core.model_json import ModelInfo, read_model_json, write_model_json
from deploy.core.preprocess import images_to_batch
from deploy.core.roi import RoiRule
from deploy.engine import open_engine
from deploy.evaluation import evaluate_model
from deploy.frames import Frame, find_frames, read_image
from deploy.reference import write_reference
from deploy.source import list_images, open_source
from stages.detectnet.checkpoint import Checkpoint, detector_info
from stages.detectnet.compression_config import ExportConfig, RetrainConfig
from stages.detectnet.exporting import FILES, export_detector
from stages.detectnet.model import DetectNet, build_architecture
from stages.detectnet.onnx_export import make_images
from stages.detectnet.quantization import quantize_model, read_ranges, strip_quantizers
from stages.gesturenet.model import Architecture, GestureClassifier
from stages.gesturenet.onnx_export import export_model

INPUT_WH = [960, 544]
LAYERS = {"resnet18": 18, "resnet34": 34}
POSTPROCESS = Postprocess("nms", 0.1, 0.3, 1.0, 0.4, "max", 0.1, 4.0)
# Distinct weights: this many per standard deviation.
STEPS = 4
# Keeps a sum of two branches at the size of one.
BRANCH_GAIN = 0.7
CLIP_WH = (1280, 720)
# Of a clip of pictures: how many frames show one, and by how much it is larger than they are.
SHOT = 200
MARGIN = 0.125
# Cells of a frame in which a random detector finds something, and the frames that tell.
CELLS = 4
QUIET_FRAMES = 24
# Its boxes: about so many grid scales from a cell to each side, as a hand's are.
EXTENT = 1.0


def main() -> int:
    """Gather; print what was written."""
    args = parse_arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    clip = args.out / "clip.mp4"
    if args.clip_images is None:
        draw_clip(clip, num_frames=args.clip_frames)
    else:
        write_clip(clip, args.clip_images, num_frames=args.clip_frames)
    folders = [make_random(name, args.out / "models" / name, clip) for name in args.random]
    folders += [make_widened(model, args.out / "models", clip) for model in args.widen]
    folders += [copy_model(model, args.out / "models") for model in args.model]
    for folder in folders:
        write_reference(folder, read_model_json(folder))
    if args.kitti is not None:
        stems = Path(args.split).read_text().split() if args.split else None
        frames = copy_frames(args.kitti, args.out, stems, limit=args.frames)
        expected = {folder.name: measure(folder, frames) for folder in folders}
        (args.out / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    sys.stdout.write(f"tensorrt_models: {len(folders)} models -> {args.out}\n")
    return 0


def write_clip(path: Path, folder: Path, *, num_frames: int) -> None:
    """Write the pictures of a folder as mp4, 1280x720, again and again: a window moves over each
    for SHOT frames. A new picture in every frame would take a decoder several times as
    long as any camera's video."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, CLIP_WH)
    frames = pan(list_images(folder), SHOT)
    for image in itertools.islice(frames, num_frames):
        writer.write(image)
    writer.release()


def pan(paths: Sequence[Path], shot_frames: int) -> Iterator[np.ndarray]:
    """Yield (H, W, 3) windows of CLIP_WH that move over each picture, MARGIN larger, for ever."""
    width, height = CLIP_WH
    across, down = round(MARGIN * width), round(MARGIN * height)
    for path in itertools.cycle(paths):
        picture = cv2.resize(read_image(path), (width + across, height + down))
        for step in range(shot_frames):
            x, y = step * across // shot_frames, step * down // shot_frames
            yield np.ascontiguousarray(picture[y : y + height, x : x + width])


def make_random(name: str, folder: Path, clip: Path) -> Path:
    """Write the model folder of a network with random weights; clip: what it will see."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if name == "gesture":
        return _make_random_classifier(folder)
    torch.manual_seed(0)
    network = DetectNet(build_architecture(LAYERS[name], width=64, input_wh=INPUT_WH))
    randomize(network)
    quiet_inplace(network.eval(), clip)
    images = torch.from_numpy(make_images(2, input_wh=INPUT_WH))
    return _export(folder, network, images, POSTPROCESS)


def make_widened(named: str, models: Path, clip: Path) -> Path:
    """Write the full network "NAME=DIR": NAME of LAYERS, DIR the exported detector put into it."""
    name, _, source = named.partition("=")
    folder, info = models / name, read_model_json(Path(source))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    network = widen(read_weights(Path(source)), LAYERS[name], input_wh=[*info.input_wh])
    frames = read_clip(clip)
    images = torch.from_numpy(images_to_batch(frames, input_wh=info.input_wh))
    return _export(folder, network, images, info.postprocess)


def _export(
    folder: Path, network: DetectNet, images: torch.Tensor, postprocess: Postprocess
) -> Path:
    """Write the model folder of a network whose ranges are measured on images (B, 3, H, W)."""
    config = RetrainConfig(fold_batch_norm=True, range_rule="calibrated")
    quantized = quantize_model(network, images.split(1), config)
    checkpoint = Checkpoint(strip_quantizers(quantized), read_ranges(quantized))
    # Of a random network rounding moves outputs by much: here it is only measured.
    export_detector(folder, checkpoint, ExportConfig(check_images=1, tolerance_float=1.0))
    info = detector_info(folder, network.architecture, dict(FILES), postprocess)
    write_model_json(folder, info._replace(name=folder.name))
    return folder


def _make_random_classifier(folder: Path) -> Path:
    torch.manual_seed(0)
    network = GestureClassifier(Architecture()).eval()
    crops = torch.from_numpy(make_images(8, input_wh=[160, 160]))
    export_model(folder, network, calibration=crops, rule=RoiRule())
    info = read_model_json(folder)
    (folder / info.files["torch"]).unlink()
    write_model_json(folder, info._replace(files=without_torch(info.files)))
    return folder


def without_torch(files: Mapping[str, str]) -> dict[str, str]:
    """Return the files of a model folder, less the one that only training needs."""
    return {role: name for role, name in files.items() if role != "torch"}


def randomize(network: nn.Module) -> None:
    """Give convolutions normal weights on a coarse grid, and normalisation one gain; in place."""
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                spread = layer.weight[0].numel() ** -0.5
                layer.weight.normal_(std=STEPS).round_().mul_(1.4 * spread / STEPS)
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.fill_(BRANCH_GAIN)


def quiet_inplace(network: DetectNet, clip: Path) -> None:
    """Shift the coverage so that CELLS cells of the clip's median frame reach the threshold, and
    give all boxes the size of a hand."""
    frames = read_clip(clip)
    head = network.get_submodule("output_cov")
    logits: list[torch.Tensor] = []
    hook = head.register_forward_hook(lambda module, given, output: logits.append(output))
    with torch.no_grad():
        for image in frames:
            width, height = INPUT_WH
            network(torch.from_numpy(images_to_batch([image], input_wh=(width, height))))
        least = torch.stack([values.flatten().topk(CELLS).values[-1] for values in logits])
        threshold = torch.logit(torch.tensor(POSTPROCESS.confidence_threshold))
        assert isinstance(head.bias, nn.Parameter)
        head.bias.add_(threshold - least.median())
        box_head = network.get_submodule("output_bbox")
        box_head.weight.mul_(0.1)
        box_head.bias.fill_(EXTENT)
    hook.remove()


def read_clip(clip: Path) -> list[np.ndarray]:
    """Return its first frames (H, W, 3) uint8."""
    with open_source(str(clip)) as source:
        return [frame.image for frame in itertools.islice(source.frames(), QUIET_FRAMES)]


def copy_model(named: str, models: Path) -> Path:
    """Copy a model folder ("DIR", "NAME=DIR"), without the training file, under its own name."""
    name, _, place = named.rpartition("=")
    source = Path(place)
    folder = models / (name or source.resolve().name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    info = read_model_json(source)
    files = without_torch(info.files)
    for name in files.values():
        shutil.copy(source / name, folder / name)
    write_model_json(folder, info._replace(files=files))
    return folder


def copy_frames(kitti: Path, out: Path, stems: list[str] | None, *, limit: int) -> list[Frame]:
    """Copy labelled frames, evenly spaced, and list the copies."""
    frames = find_frames(kitti / "images", kitti / "labels", stems=stems, limit=limit)
    for name in ("images", "labels"):
        shutil.rmtree(out / name, ignore_errors=True)
        (out / name).mkdir(parents=True)
    for frame in frames:
        shutil.copy(frame.image_path, out / "images")
        shutil.copy(kitti / "labels" / f"{frame.stem}.txt", out / "labels")
    return find_frames(out / "images", out / "labels")


def measure(folder: Path, frames: list[Frame]) -> dict[str, dict[str, float]]:
    """Return ONNX Runtime's ap and ap50 of a detector by precision; of a classifier nothing."""
    info = read_model_json(folder)
    found: dict[str, dict[str, float]] = {}
    if info.kind != "detector":
        return found
    for precision in ("fp32", "int8"):
        with open_engine(folder, runtime="onnxruntime", precision=precision) as engine:
            found[precision] = _precisions(engine.infer, info, frames)
    found["int8_unfused"] = _precisions(_run_unfused(folder, info), info, frames)
    return found


def _run_unfused(folder: Path, info: ModelInfo) -> Any:
    """Return the Q/DQ file as a function of a batch, without ONNX Runtime's integer kernels."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        str(folder / info.files["qdq"]), options, providers=["CPUExecutionProvider"]
    )
    names = list(info.outputs)

    def infer(batch: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {info.input_name: batch}), strict=True))

    return infer


def _precisions(infer: Any, info: ModelInfo, frames: list[Frame]) -> dict[str, float]:
    metrics = evaluate_model(infer, info, frames).metrics
    return {"ap": float(metrics.ap), "ap50": float(metrics.ap50)}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.tensorrt_models",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", action="append", default=[], metavar="[NAME=]DIR")
    parser.add_argument("--random", nargs="*", default=[], choices=(*LAYERS, "gesture"))
    parser.add_argument(
        "--widen",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help=f"full network, NAME of {', '.join(LAYERS)}, that finds what the detector DIR finds",
    )
    parser.add_argument("--kitti", type=Path, metavar="DIR", help="folder of images/ and labels/")
    parser.add_argument("--split", metavar="FILE", help="list of frames (default: all)")
    parser.add_argument("--frames", type=int, default=60, metavar="N")
    parser.add_argument(
        "--clip-images", type=Path, metavar="DIR", help="pictures of the clip (default: drawn)"
    )
    parser.add_argument(
        "--clip-frames", type=int, default=150, metavar="N", help="1600 for figures that hold"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
