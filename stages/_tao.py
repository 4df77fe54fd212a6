"""The detector's stages through NVIDIA's TAO (backend=tao); the stage files call them.

Each checks first that TAO can run here and can do what the configuration asks for, works in the
stage's work folder, where a run that was cut goes on, and writes what the open backend would.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.core.cluster import Postprocess
from deploy.core.model_json import read_model_json
from stages._files import hash_paths
from stages._stage import Stage, Summary
from stages.detectnet.calibration_cache import parse_cache, tensorrt_number
from stages.detectnet.compression_config import ExportConfig, PruneConfig, RetrainConfig
from stages.detectnet.config import FitConfig, ModelConfig
from stages.detectnet.history import log_row, write_history
from stages.tao import tasks
from stages.tao.commands import read_key
from stages.tao.config import TaoConfig
from stages.tao.errors import TaoError
from stages.tao.experiment import Network, render_experiment
from stages.tao.generations import find_generation
from stages.tao.model_folder import (
    ONNX,
    SPEC,
    ModelFacts,
    count_parameters,
    model_file,
    read_facts,
    render_cache,
    write_exported,
    write_model,
)
from stages.tao.ngc import NAMES, PEOPLENET, bring_model, check_file, find_model
from stages.tao.preflight import require_tao
from stages.tao.status import EpochRow, history_row
from stages.tao.steps import Bench
from stages.tao.support import check_prune, check_retrain, check_train

LOGGER = logging.getLogger(__name__)
KITTI = Path("data/kitti")
SPLIT = Path("data/split")
SIDES = ("train", "val")
ENCRYPTED = ".tlt"


def train(
    stage: Stage, tao: TaoConfig, model: ModelConfig, fit: FitConfig, postprocess: Postprocess
) -> Summary:
    """Write models/train: the network at full width, and its history."""
    check_train(model, fit, postprocess)
    bench = open_bench(stage, tao, encrypted=(model.pretrained or "").endswith(ENCRYPTED))
    pretrained = _find_pretrained(model, bench)
    if pretrained is not None:
        # dvc.yaml cannot declare it, and a run must not resume one that began with another.
        bench = bench._replace(work=bench.folder(hash_paths([pretrained])[:16]))
    width, height = model.input_wh
    facts = ModelFacts(tao.generation, model.num_layers, (width, height), model.all_projections)
    network = Network(
        model.num_layers, facts.input_wh, model.all_projections, _placed(bench, pretrained)
    )
    return _fit(stage, bench, facts, network, fit, postprocess)


def prune(stage: Stage, tao: TaoConfig, config: PruneConfig, source: Path) -> Summary:
    """Write models/prune: the network without its least important channels."""
    check_prune(config)
    facts = read_facts(source, tao.generation)
    bench = open_bench(stage, tao)
    if config.sensitivity.images:
        LOGGER.info("prune: no sensitivity table with backend=tao")
    suffix = bench.generation.model_suffix
    model = tasks.place_file(bench, model_file(source), f"model{suffix}")
    pruned, params_frac = tasks.prune(bench, config, model)
    spec = (source / SPEC).read_text()
    exported = _export_float(bench, pruned, spec)
    postprocess = read_model_json(source).postprocess
    assert postprocess is not None  # model.json's schema wants one for detectors
    with stage.writing("models/prune") as folder:
        write_model(
            folder, facts, model=pruned, exported=exported, spec=spec, postprocess=postprocess
        )
    with stage.writing("results/prune") as folder:
        (folder / "prune.log").write_text((bench.work / "logs/prune.log").read_text())
    metrics: dict[str, float] = {"threshold": config.threshold or 0.0}
    if exported is not None:
        before = count_parameters(source / ONNX)
        after = count_parameters(stage.out("models/prune") / ONNX)
        metrics |= {"params_before": before, "params_after": after, "params_frac": after / before}
    if params_frac is not None:
        metrics["params_frac"] = params_frac
    stage.write_metrics(metrics)
    kept = {"kept": metrics["params_frac"]} if "params_frac" in metrics else {}
    return Summary(kept, stage.out("models/prune"))


def retrain(
    stage: Stage, tao: TaoConfig, config: RetrainConfig, source: Path, postprocess: Postprocess
) -> Summary:
    """Write models/retrain: the pruned network, trained on with rounding to 8 bits."""
    check_retrain(config, postprocess)
    facts = read_facts(source, tao.generation)
    bench = open_bench(stage, tao)
    model = tasks.place_file(bench, model_file(source), f"pruned{bench.generation.model_suffix}")
    network = Network(
        facts.num_layers,
        facts.input_wh,
        facts.all_projections,
        bench.inside(model),
        is_graph=True,
    )
    return _fit(stage, bench, facts, network, config.qat_fit, postprocess, quantize=True)


def export(
    stage: Stage, tao: TaoConfig, config: ExportConfig, source: Path, postprocess: Postprocess
) -> Summary:
    """Write models/export: detector.onnx (or .etlt), the calibration cache and model.json."""
    facts = read_facts(source, tao.generation)
    bench = open_bench(stage, tao)
    suffix = bench.generation.model_suffix
    model = tasks.place_file(bench, model_file(source), f"model{suffix}")
    spec = (source / SPEC).read_text()
    exported, ranges = tasks.export(bench, model, spec, quantized=True)
    assert ranges is not None  # of a quantized network
    version = tensorrt_number(config.tensorrt_version)
    is_open = bench.generation.is_open
    cache = render_cache(ranges, version=version) if is_open else ranges.read_text()
    num_ranges = len(parse_cache(cache, source=ranges.name).scales)
    with stage.writing("models/export") as folder:
        write_exported(folder, facts, exported=exported, cache=cache, postprocess=postprocess)
        size_kb = exported.stat().st_size / 1000
    target = stage.out("models/export")
    if is_open:
        stage.tracker.log_model(target / ONNX, name="egohands-detector")
    kind = "fp32" if is_open else "etlt"
    stage.write_metrics({f"{kind}_kb": size_kb, "calibration_tensors": num_ranges})
    return Summary({f"KB {kind}": size_kb, "ranges": num_ranges}, target)


def open_bench(stage: Stage, tao: TaoConfig, *, encrypted: bool = False) -> Bench:
    """Return where the stage's steps run, after checking that TAO can run here at all.

    encrypted: a file is read that needs a key although the generation does without.
    """
    work = stage.work_dir()
    stage.need("onnx")
    require_tao(tao, work=work)
    return Bench(tao, work, read_key(find_generation(tao.generation), needed=encrypted))


def _find_pretrained(model: ModelConfig, bench: Bench) -> Path | None:
    """Return the file that model.pretrained names, fetched from NGC where that is a name."""
    if model.pretrained is None:
        return None
    if model.pretrained not in NAMES:
        return check_file(Path(model.pretrained).expanduser(), model.pretrained_sha256)
    wanted = find_model(
        model.pretrained, num_layers=model.num_layers, encrypted=not bench.generation.is_open
    )
    if wanted.key not in (None, bench.key):
        raise TaoError(
            f"{PEOPLENET} is encrypted with the key {wanted.key}, and TAO takes one key for all "
            f"files; export TAO_KEY={wanted.key}"
        )
    return bring_model(wanted, sha256=model.pretrained_sha256)


def _placed(bench: Bench, pretrained: Path | None) -> str | None:
    if pretrained is None:
        return None
    return bench.inside(tasks.place_file(bench, pretrained, f"pretrained{pretrained.suffix}"))


def _fit(
    stage: Stage,
    bench: Bench,
    facts: ModelFacts,
    network: Network,
    fit: FitConfig,
    postprocess: Postprocess,
    *,
    quantize: bool = False,
) -> Summary:
    """Train, export what can be, and write model folder, history and metrics."""
    counts = {side: _stems(stage, side) for side in SIDES}
    _check_validation(stage, len(counts["val"]), fit)
    train, validation = (
        tasks.place_side(bench, side, stage.dep(KITTI), counts[side], input_wh=facts.input_wh)
        for side in SIDES
    )
    spec = render_experiment(
        network,
        fit,
        postprocess,
        bench.config,
        bench.generation,
        train=train,
        validation=validation,
        quantize=quantize,
    )
    trained = tasks.train(bench, stage.name, spec, on_epoch=_logger(stage))
    exported = _export_float(bench, trained.model, spec)
    with stage.writing(f"models/{stage.name}") as folder:
        write_model(
            folder,
            facts,
            model=trained.model,
            exported=exported,
            spec=spec,
            postprocess=postprocess,
        )
    stage.tracker.log_figure(stage.out(f"models/{stage.name}") / SPEC)
    with stage.writing(f"results/{stage.name}") as folder:
        write_history(folder / "history.csv", trained.history)
    metrics = _final_metrics(trained.history)
    stage.write_metrics({"epochs": fit.epochs, **metrics})
    shown = {"images": len(counts["train"]), "epochs": fit.epochs, **metrics}
    return Summary(shown, stage.out(f"models/{stage.name}"))


def _check_validation(stage: Stage, num_frames: int, fit: FitConfig) -> None:
    """TAO validates whole batches alone: say so, and refuse when that leaves none."""
    left_out = num_frames % fit.batch_size
    if left_out == num_frames:
        raise TaoError(
            f"{num_frames} validation frames are no whole batch of {fit.batch_size}, and TAO "
            "validates whole ones alone; lower the batch_size, or give the split more videos"
        )
    if left_out:
        LOGGER.info("%s: TAO validates on all but %d frames", stage.name, left_out)


def _stems(stage: Stage, side: str) -> list[str]:
    return (stage.dep(SPLIT) / f"{side}.txt").read_text().split()


def _logger(stage: Stage) -> Callable[[EpochRow], None]:
    """Return what sends an epoch's values to the tracker, each as soon as it is there, once."""
    sent: dict[int, dict[str, float]] = {}

    def log(row: EpochRow) -> None:
        values, known = history_row(row), sent.get(row.epoch, {})
        fresh = {name: value for name, value in values.items() if known.get(name) != value}
        sent[row.epoch] = values
        stage.tracker.log_metrics(log_row(fresh), step=row.epoch)

    return log


def _export_float(bench: Bench, model: Path, spec: str) -> Path | None:
    """Return the network as ONNX, for our own evaluation; encrypted generations have none."""
    if not bench.generation.is_open:
        return None
    exported, _ = tasks.export(bench, model, spec, quantized=False)
    return exported


def _final_metrics(history: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the last value of each column but the epoch's number."""
    last: dict[str, float] = {}
    for row in history:
        last |= row
    names = {"loss": "loss", "val_tao_map": "tao_map", "val_cost": "validation_cost"}
    return {ours: last[theirs] for theirs, ours in names.items() if theirs in last}
