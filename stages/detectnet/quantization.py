"""8-bit quantization of the detector with NVIDIA's Model Optimizer (modelopt).

Weights are symmetric per output channel, activations symmetric per tensor, both signed (modelopt's
INT8_DEFAULT_CFG). Each activation is rounded once, where it is made: the network input, the output
of every activation function, and the output of every projection shortcut (the second input of a
residual addition). Both consumers of a tensor then share one range, the exported graph holds one
Q/DQ pair per tensor, OpenVINO runs every convolution in 8 bits, and TensorRT can fuse convolution,
addition and activation. NVIDIA's way (nvidia_tao_tf1 core/models/quantize_keras_model.py) rounds
more tensors and gives a kernel one range; RetrainConfig has switches for both.

Batch normalisation is folded before, or stays while the network trains. One that stays is folded
when the network is read out (strip_quantizers, read_ranges): a rounded kernel times the factors of
the normalisation is the folded kernel rounded by steps times the same factors, one per channel.
modelopt takes seconds to import, so that happens inside functions.
"""

import contextlib
import copy
import io
import warnings
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch import nn

from stages.detectnet.compression_config import CalibrationConfig, RetrainConfig
from stages.detectnet.errors import DetectNetError
from stages.detectnet.folding import (
    drop_batch_norm,
    fold_batch_norm,
    is_folded,
    norm_name,
    trunk_convs,
)
from stages.detectnet.model import DetectNet, ResidualAdd
from stages.detectnet.moving_ranges import (
    follow_kernel,
    follow_values,
    is_following_kernel,
    largest_value,
)
from stages.detectnet.rounding import observer_names, quantizer_names


def is_quantized(model: nn.Module) -> bool:
    """Tell whether the network carries modelopt's quantizers."""
    return any(name.endswith("_quantizer") for name, _ in model.named_modules())


def quantize_model(
    model: DetectNet, batches: Iterable[torch.Tensor], config: RetrainConfig
) -> DetectNet:
    """Fold if configured, add quantizers and find their ranges; `model` stays as it is.

    batches: images (B, 3, H, W) float32 in [0, 1], on the model's device; at least one. Of the
    configuration its training runs and config.activation do not matter here.
    Raises DetectNetError when the model is quantized already.
    """
    if is_quantized(model):
        raise DetectNetError(
            "the model is quantized already, expected a float one; "
            "retrain starts from models/prune"
        )
    enabled = quantizer_names(
        model, quantize_heads=config.quantize_heads, placement=config.placement
    )
    observers = observer_names(model, placement=config.placement)
    prepared = fold_batch_norm(model) if config.fold_batch_norm else copy.deepcopy(model).eval()
    quantized = _insert_quantizers(prepared, enabled + observers, weight_axis=config.weight_axis)
    with _measuring(quantized, config.calibration), torch.no_grad():
        for images in batches:
            quantized(images)
    for name in observers:
        quantized.get_submodule(_place(quantized, name)).disable()  # type: ignore[operator]
    if config.range_rule == "moving_average":
        _follow(quantized, decay=config.range_decay)
    return quantized


def read_ranges(model: DetectNet) -> dict[str, torch.Tensor]:
    """Return the quantizers' largest absolute values in the folded network, by name.

    Activations: (1,); weights: (F,) per output channel or () per kernel; float32 on the CPU, above
    0 (1 where all that was seen is 0, which any range represents). The observers are among them.
    """
    convs = {_place(model, f"{name}.output_quantizer"): name for name in trunk_convs(model)}
    ranges = {}
    for name, quantizer in _quantizers(model):
        if quantizer.amax is None:
            continue
        if name.endswith("weight_quantizer"):
            largest = _kernel_range(model, name, quantizer)
        else:
            largest = quantizer.amax.detach().float().cpu().reshape(1)
        folded_name = f"{convs[name]}.output_quantizer" if name in convs else name
        ranges[folded_name] = torch.where(largest > 0, largest, torch.ones_like(largest))
    return ranges


def strip_quantizers(model: DetectNet) -> DetectNet:
    """Return the folded float network inside a quantized one: the same weights, unrounded."""
    plain = DetectNet(model.architecture)
    if is_folded(model):
        drop_batch_norm(plain)
    plain.load_state_dict(_float_state(model))
    return fold_batch_norm(plain)


def _kernel_range(model: DetectNet, name: str, quantizer: Any) -> torch.Tensor:
    """Return the range of a kernel as it will be folded: (F,), or () for one of the whole."""
    conv_name = name.removesuffix(".weight_quantizer")
    conv, largest = model.get_submodule(conv_name), quantizer.amax.detach()
    assert isinstance(conv, nn.Conv2d)
    if is_following_kernel(quantizer):
        # The last step of training changed the kernel after its last use.
        largest = largest_value(conv.weight.detach(), largest)
    largest = largest.float().cpu().flatten()
    if quantizer.axis is None:
        largest = largest.squeeze(0)
    if conv_name not in trunk_convs(model) or is_folded(model):
        return largest
    norm = model.get_submodule(norm_name(conv_name))
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    factor = norm.weight.detach() * torch.rsqrt(norm.running_var + norm.eps)  # (F,)
    return largest * factor.abs().cpu()


def _place(model: DetectNet, name: str) -> str:
    """Name the quantizer in this network that a quantizer of the folded one stands for.

    The output of a convolution is that of the batch normalisation behind it, where there is one.
    """
    conv_name, _, kind = name.rpartition(".")
    if kind != "output_quantizer" or conv_name not in trunk_convs(model) or is_folded(model):
        return name
    return f"{norm_name(conv_name)}.{kind}"


def _follow(model: DetectNet, *, decay: float) -> None:
    """Let quantizers and observers learn their ranges while the network trains, in place."""
    for name, quantizer in _quantizers(model):
        if quantizer.amax is None:
            continue
        if name.endswith("weight_quantizer"):
            follow_kernel(quantizer)
        else:
            follow_values(quantizer, decay=decay)


def _float_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights without the quantizers' ranges, on the CPU, in storage of their own."""
    return {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in model.state_dict().items()
        if "_quantizer." not in key
    }


def _insert_quantizers(model: DetectNet, names: list[str], *, weight_axis: str) -> DetectNet:
    """Put modelopt's quantizers into `model` in place; only the named ones are enabled."""
    quantization = _import_modelopt()
    entries: list[dict[str, Any]] = [{"quantizer_name": "*", "enable": False}]
    for name in names:
        is_per_channel = name.endswith("weight_quantizer") and weight_axis == "channel"
        settings = {"num_bits": 8, "axis": 0 if is_per_channel else None}
        entries.append({"quantizer_name": _place(model, name), "cfg": settings})
    with _quietly():
        return quantization.quantize(model, {"quant_cfg": entries, "algorithm": None})


@contextlib.contextmanager
def _measuring(model: DetectNet, calibration: CalibrationConfig) -> Iterator[None]:
    """Measure instead of rounding while the block runs, then set every enabled range."""
    from modelopt.torch.quantization.calib import HistogramCalibrator

    enabled = [(name, quantizer) for name, quantizer in _quantizers(model) if quantizer.is_enabled]
    for name, quantizer in enabled:
        # Weights are all there to be seen: their range is always the largest value.
        if calibration.method != "max" and not name.endswith("weight_quantizer"):
            quantizer._calibrator = HistogramCalibrator()
        quantizer.disable_quant()
        quantizer.enable_calib()
    yield
    for _name, quantizer in enabled:
        with _quietly():
            _set_range(quantizer, calibration)
        quantizer.enable_quant()
        quantizer.disable_calib()


def _set_range(quantizer: Any, calibration: CalibrationConfig) -> None:
    from modelopt.torch.quantization.calib import HistogramCalibrator

    if not isinstance(quantizer._calibrator, HistogramCalibrator):
        quantizer.load_calib_amax()
    elif calibration.method == "percentile":
        quantizer.load_calib_amax("percentile", percentile=calibration.percentile)
    else:
        # Every 8th candidate range: modelopt's search takes 3 s a tensor with all of them.
        quantizer.load_calib_amax("entropy", stride=8)


def _quantizers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if name.endswith("_quantizer"):
            yield name, module


def _import_modelopt() -> ModuleType:
    """Import modelopt.torch.quantization; teach it to round activation functions and additions."""
    with _quietly():
        import modelopt.torch.quantization as quantization
        from modelopt.torch.quantization.nn import QuantModuleRegistry
        from modelopt.torch.quantization.nn.modules.quant_module import QuantInputBase

        for layer in (nn.ReLU, nn.ReLU6, ResidualAdd):
            if layer not in QuantModuleRegistry:
                QuantModuleRegistry.register({layer: f"nn.{layer.__name__}"})(QuantInputBase)
    return quantization


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep modelopt's prints and warnings about optional packages out of a stage's output."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
