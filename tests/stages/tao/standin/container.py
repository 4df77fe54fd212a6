"""Plays what is inside NVIDIA's container: `detectnet_v2 <sub-task> ...`, its files and faults.

Written from github.com/NVIDIA/tao_tensorflow1_backend (cv/common/entrypoint, logging/logging.py,
detectnet_v2/scripts): sticky status fields, exit status 0 after an invalid spec, checkpoints that
a later run goes on from, an export that refuses an existing file. The network it "trains" is one
convolution that finds bright places; its exported form is a real ONNX file.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import state
from google.protobuf import text_format

sys.path.insert(0, str(Path(__file__).parents[4]))
from tests.stages.tao.definitions import parse  # noqa: E402

STATE = Path(os.environ["STANDIN_STATE"])
FAULTS = {
    "disk_full": "OSError: [Errno 28] No space left on device: '/workspace/hands/results'",
    "wrong_key": "Invalid decryption. Unable to open file (file signature not found). "
    "The key used to load the model is incorrect.",
    "out_of_memory": "tensorflow.python.framework.errors_impl.ResourceExhaustedError: OOM when "
    "allocating tensor with shape[64,64,272,480]",
    "crash": "ValueError: Input 0 is incompatible with layer conv1",
}
REQUIRED = (
    "model_config",
    "training_config",
    "evaluation_config",
    "cost_function_config",
    "augmentation_config",
    "bbox_rasterizer_config",
    "postprocessing_config",
    "dataset_config",
)


class Status:
    """status.json as NVIDIA writes it: what was once set stands in every later record."""

    def __init__(self, folder, *, append: bool = True) -> None:
        self.path = folder and folder / "status.json"
        self.sticky: dict = {}
        if self.path:
            folder.mkdir(parents=True, exist_ok=True)
            if not append:
                self.path.write_text("")

    def write(self, status: str, message: str = "", data=None, **sticky) -> None:
        self.sticky.update(sticky)
        if self.path is None:
            return
        now = time.localtime()
        record = {
            **(data or {}),
            "date": f"{now.tm_mon}/{now.tm_mday}/{now.tm_year}",
            "time": f"{now.tm_hour}:{now.tm_min}:{now.tm_sec}",
            "status": status,
            "verbosity": "INFO",
            **({"message": message} if message else {}),
            **self.sticky,
        }
        with self.path.open("a") as stream:
            stream.write(json.dumps(record) + "\n")


class Fault(Exception):
    """An error inside a sub-task."""


def main(source: str, target: str, argv: list[str]) -> int:
    program, task, *rest = [
        arg.replace(target, source, 1) if arg.startswith(target) else arg for arg in argv
    ]
    assert program == "detectnet_v2", argv
    global PLACE
    PLACE = (target, source)
    fault = state.take_fault(STATE, task)
    try:
        status = TASKS[task](read_arguments(task, rest), fault)
        status.write("SUCCESS", DONE[task])
    except Fault as error:
        print('Traceback (most recent call last):\n  File "train.py", line 1, in <module>')
        print(error)
        print("Execution status: FAIL")
        return 255
    except SystemExit as interrupted:
        # NVIDIA's main() swallows it: the entry point then reports success.
        print(interrupted)
    print("Execution status: PASS")
    return 0


def read_arguments(task: str, argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(task)
    for flags in FLAGS[task].split():
        parser.add_argument(*flags.split("|"))
    parser.add_argument("--gpus", default="1")
    parser.add_argument("--gpu_index", nargs="+")
    parser.add_argument("--use_amp", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args(argv, argparse.Namespace(command=task))


def is_open(args: argparse.Namespace) -> bool:
    return state.read(STATE, "generation.json", "tao5") in ("tao5", "tao6")


def here(path: str) -> Path:
    """The place on this machine of a path that a spec names."""
    return Path(path.replace(*PLACE, 1))


def load(path: str, root: str, args: argparse.Namespace):
    try:
        return parse(Path(path).read_text(), root, is_open=is_open(args))
    except text_format.ParseError as error:
        raise Fault(f"google.protobuf.text_format.ParseError: {error}") from error


def fail(status: Status, fault: str) -> None:
    status.write("FAILURE", FAULTS[fault])
    raise Fault(FAULTS[fault])


def dataset_convert(args, fault) -> Status:
    spec = load(args.d, "DatasetExportConfig", args).kitti_config
    root = here(spec.root_directory_path)
    status = Status(args.r and Path(args.r))
    status.write("STARTED", "Starting Object Detection Dataset Convert.")
    if fault:
        fail(status, fault)
    images = sorted((root / spec.image_dir_name).glob(f"*{spec.image_extension}"))
    validation = int(spec.val_split / 100.0 * len(images))
    folds = [images[:validation], images[validation:]]
    for image in images:
        lines = (root / spec.label_dir_name / f"{image.stem}.txt").read_text().splitlines()
        assert all(len(line.split()) == 15 for line in lines), "should have only 15 fields"
    # A fold without frames is left out and does not count: what is left begins at 0.
    for fold, members in enumerate(filter(None, folds)):
        size = len(members) // spec.num_shards
        for shard in range(spec.num_shards):
            name = f"{args.o}-fold-{fold:03d}-of-002-shard-{shard:05d}-of-{spec.num_shards:05d}"
            end = (shard + 1) * size if shard + 1 < spec.num_shards else len(members)
            Path(name).write_text("".join(f"{p.name}\n" for p in members[shard * size : end]))
    status.write("RUNNING", "Num images", kpi={"num_images": len(images)})
    return status


def check_experiment(args) -> object:
    spec = load(args.e, "Experiment", args)
    missing = [name for name in REQUIRED if not spec.HasField(name)]
    size = spec.augmentation_config.preprocessing
    if missing or size.output_image_width % 16 or size.output_image_height % 16:
        raise SystemExit(f"spec is invalid: {missing}")
    dataset = spec.dataset_config
    sizes = []
    for source in (*dataset.data_sources, dataset.validation_data_source):
        place = here(source.tfrecords_path)
        shards = [path.read_text().split() for path in place.parent.glob(place.name)]
        assert shards, f"No files match pattern {place}"
        assert all(shards), "an empty shard has no features to read"
        folder = here(source.image_directory_path)
        assert all((folder / "images" / name).is_file() for shard in shards for name in shard)
        sizes.append(sum(map(len, shards)))
    check_steps(spec.training_config, sizes, args)
    return spec


def check_steps(training, sizes: list[int], args) -> None:
    steps = -(-sizes[0] // training.batch_size_per_gpu)
    steps = -(-steps // int(args.gpus))
    points = training.visualizer.scalar_logging_frequency or 10
    if args.command == "train" and is_open(args) and points > steps:
        raise Fault(f"ValueError: Number of logging points {points} must be <= than {steps}.")
    assert sizes[-1] // training.batch_size_per_gpu > 0, "no validation batch"


def train(args, fault) -> Status:
    results = Path(args.r)
    status = Status(results)
    status.write("STARTED", "Starting DetectNet_v2 Training job")
    try:
        if fault == "invalid_spec":
            raise SystemExit("Invalid spec")
        spec = check_experiment(args)
    except SystemExit:
        status.write("FAILURE", "Training was interrupted")
        raise
    check_pretrained(spec, args)
    if fault in FAULTS:
        fail(status, fault)
    (results / "weights").mkdir(exist_ok=True)
    done = [int(p.stem.rpartition("-")[2]) for p in results.glob("model.epoch-*.ckzip")]
    training, suffix = spec.training_config, ".hdf5" if is_open(args) else ".tlt"
    first, evaluation = max(done, default=0), spec.evaluation_config
    print(f"resuming from epoch {first}" if first else "starting anew")
    for epoch in range(first, training.num_epochs):
        loss = 0.1 / (1 + epoch)
        data = {"epoch": epoch, "max_epoch": training.num_epochs, "eta": "0:00:01"}
        status.write("RUNNING", "", data, graphical={"loss": loss, "learning_rate": "5e-06"})
        print(f"Epoch {epoch}/{training.num_epochs}: loss: {loss:.5f} learning rate: 5e-06")
        if fault == "killed" and epoch == training.num_epochs - 1:
            os.kill(os.getpid(), 9)
        if fault == "interrupted":
            status.write("RUNNING", "Training was interrupted")
            break
        number = epoch + 1
        if number % training.checkpoint_interval == 0 or number == training.num_epochs:
            (results / f"model.epoch-{number}.ckzip").write_text("checkpoint")
        late = number - evaluation.first_validation_epoch
        is_due = late >= 0 and late % evaluation.validation_period_during_training == 0
        if is_due or number == training.num_epochs:
            report_validation(status, 40.0 + number)
    weights = results / "weights" / f"{args.n}{suffix}"
    width, height = spec.augmentation_config.preprocessing.output_image_width, 0
    height = spec.augmentation_config.preprocessing.output_image_height
    weights.write_text(json.dumps({"wh": [width, height], "qat": training.enable_qat}))
    status.write("RUNNING", "Model saved.", kpi={"size": 0.1, "param_count": 0.02})
    return status


def check_pretrained(spec, args) -> None:
    name = spec.model_config.pretrained_model_file
    if not name:
        return
    path = here(name)
    assert path.is_file(), name
    if path.suffix not in (".hdf5", ".tlt"):
        raise Fault(f"NotImplementedError: {path.suffix} file is not supported")
    if spec.model_config.load_graph:
        assert not json.loads(path.read_text())["qat"], "a QAT model cannot be quantized again"


def report_validation(status: Status, percent: float) -> None:
    print(f"Validation cost: 0.000123\nMean average_precision (in %): {percent:.4f}")
    status.write(
        "RUNNING",
        "Evaluation metrics generated.",
        kpi={"validation cost": 0.000123, "mean average precision": percent},
        categorical={"average_precision": {"hand": percent}},
    )


def evaluate(args, fault) -> Status:
    status = Status(args.r and Path(args.r), append=False)
    status.write("STARTED", "Starting DetectNet_v2 Evaluation")
    if fault:
        fail(status, fault)
    check_experiment(args)
    assert json.loads(Path(args.m).read_text())
    report_validation(status, 61.5)
    return status


def prune(args, fault) -> Status:
    status = Status(args.results_dir and Path(args.results_dir))
    status.write("STARTED", "Starting DetectNet_v2 pruning")
    if fault:
        fail(status, fault)
    assert float(args.pth) > 0
    Path(args.o).write_text(Path(args.m).read_text())
    print("Pruning ratio (pruned model / original model): 0.63")
    status.write("RUNNING", "Pruning ratio", kpi={"pruning_ratio": 0.63, "size": 0.1})
    return status


def export(args, fault) -> Status:
    status = Status(args.results_dir and Path(args.results_dir))
    if fault:
        fail(status, fault)
    if Path(args.o).exists():
        raise Fault(f"AssertionError: Default output file {args.o} already exists")
    import onnx

    network = json.loads(Path(args.m).read_text())
    if is_open(args):
        assert args.onnx_route == "tf2onnx"
        load(args.e, "Experiment", args)
        onnx.save(make_network(*network["wh"]), args.o)
        if args.cal_json_file:
            assert network["qat"], "only a QAT model has ranges"
            scales = {"input_1:0": 1.0, "block_4a_relu/Relu:0": 6.0}
            Path(args.cal_json_file).write_text(json.dumps({"tensor_scales": scales}))
    else:
        Path(args.o).write_bytes(b"\x07\0\0\0input_1encrypted")
        if args.cal_cache_file:
            Path(args.cal_cache_file).write_text(
                "TRT-8205-EntropyCalibration2\ninput_1: 3c010204\n"
            )
    return status


def make_network(width: int, height: int):
    """A convolution of stride 16 with NVIDIA's tensor names, batch axis dynamic."""
    import numpy as np
    from onnx import TensorProto, helper

    rows, columns = height // 16, width // 16
    kernel = np.full((1, 3, 16, 16), 1.0 / 768, np.float32)
    boxes = np.zeros((4, 3, 16, 16), np.float32)
    nodes = [
        helper.make_node("Conv", ["input_1:0", "k", "b"], ["cov:0"], strides=[16, 16]),
        helper.make_node("Sigmoid", ["cov:0"], ["output_cov/Sigmoid:0"]),
        helper.make_node(
            "Conv", ["input_1:0", "kb", "bb"], ["output_bbox/BiasAdd:0"], strides=[16, 16]
        ),
    ]
    constants = [
        helper.make_tensor("k", TensorProto.FLOAT, kernel.shape, (kernel * 8).ravel()),
        helper.make_tensor("b", TensorProto.FLOAT, [1], [-4.0]),
        helper.make_tensor("kb", TensorProto.FLOAT, boxes.shape, boxes.ravel()),
        helper.make_tensor("bb", TensorProto.FLOAT, [4], [0.8, 0.8, 0.8, 0.8]),
    ]

    def port(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])

    graph = helper.make_graph(
        nodes,
        "tao",
        [port("input_1:0", 3, height, width)],
        [
            port("output_cov/Sigmoid:0", 1, rows, columns),
            port("output_bbox/BiasAdd:0", 4, rows, columns),
        ],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)


def inference(args, fault) -> Status:
    spec = load(args.e, "Inference", args)
    output = Path(args.r or args.o) / "labels"
    output.mkdir(parents=True, exist_ok=True)
    assert spec.bbox_handler_config.kitti_dump
    width, height = spec.inferencer_config.image_width, spec.inferencer_config.image_height
    box = f"{0.25 * width:.2f} {0.25 * height:.2f} {0.75 * width:.2f} {0.75 * height:.2f}"
    for image in Path(args.i).glob("*.jpg"):
        (output / f"{image.stem}.txt").write_text(f"hand 0 0 0 {box} 0 0 0 0 0 0 0 0.9\n")
    return Status(None)


TASKS = {f.__name__: f for f in (dataset_convert, train, evaluate, prune, export, inference)}
DONE = {
    "dataset_convert": "Conversion finished successfully.",
    "train": "DetectNet_v2 training job complete.",
    "evaluate": "Evaluation finished successfully.",
    "prune": "Pruning finished successfully.",
    "export": "Export finished successfully.",
    "inference": "Inference finished successfully.",
}
FLAGS = {
    "dataset_convert": "-d -o -r",
    "train": "-e -r -k -n",
    "evaluate": "-e -m -k -r",
    "prune": "-m -o -k -eq -pth -n -pg -nf --results_dir",
    "export": "-m -o -k -e --onnx_route --cal_json_file --results_dir --data_type "
    "--cal_cache_file",
    "inference": "-e -o -i -r -m -k",
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
