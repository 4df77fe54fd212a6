"""8-bit quantization of the detector with NVIDIA's Model Optimizer (modelopt).

Weights are symmetric per output channel, activations symmetric per tensor, both signed
(modelopt's INT8_DEFAULT_CFG). Each activation is rounded once, where it is made: the network
input, the output of every activation function, and the output of every projection shortcut (the
second input of a residual addition). Both consumers of a tensor then share one range, the exported
graph holds one Q/DQ pair per tensor, OpenVINO runs every convolution in 8 bits, and TensorRT can
fuse convolution, addition and activation. NVIDIA's own placement is the same but for one after
each addition (nvidia_tao_tf1 core/models/quantize_keras_model.py).

Batch normalisation is folded into the convolutions before: that is what the devices run, and it
makes a training step cheaper than the float network's.
modelopt takes seconds to import, so that happens inside functions.
"""

import contextlib
import io
import warnings
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch import nn

from stages.detectnet.compression_config import CalibrationConfig
from stages.detectnet.errors import DetectNetError
from stages.detectnet.folding import drop_batch_norm, fold_batch_norm
from stages.detectnet.model import DetectNet
from stages.detectnet.rounding import observer_names, quantizer_names


def is_quantized(model: nn.Module) -> bool:
    """Tell whether the network carries modelopt's quantizers."""
    return any(name.endswith("_quantizer") for name, _ in model.named_modules())


def quantize_model(
    model: DetectNet,
    batches: Iterable[torch.Tensor],
    calibration: CalibrationConfig,
    *,
    quantize_heads: bool,
) -> DetectNet:
    """Fold, add quantizers and find their ranges; `model` stays as it is.

    batches: images (B, 3, H, W) float32 in [0, 1], on the model's device; at least one.
    Raises DetectNetError when the model is quantized already.
    """
    if is_quantized(model):
        raise DetectNetError(
            "the model is quantized already, expected a float one; "
            "retrain starts from models/prune"
        )
    enabled = quantizer_names(model, quantize_heads=quantize_heads)
    quantized = _insert_quantizers(fold_batch_norm(model), enabled + observer_names(model))
    with _measuring(quantized, calibration), torch.no_grad():
        for images in batches:
            quantized(images)
    _disable_observers(quantized)
    return quantized


def read_ranges(model: DetectNet) -> dict[str, torch.Tensor]:
    """Return each quantizer's largest absolute value, by module name.

    Activations: (1,); weights: (F,) per output channel; float32 on the CPU, above 0 (1 where all
    that was seen is 0, which any range represents). The observers are among them.
    """
    ranges = {}
    for name, quantizer in _quantizers(model):
        if quantizer.amax is not None:
            largest = quantizer.amax.detach().float().cpu().flatten()
            ranges[name] = torch.where(largest > 0, largest, torch.ones_like(largest))
    return ranges


def strip_quantizers(model: DetectNet) -> DetectNet:
    """Return the folded float network inside a quantized one: the same weights, unrounded."""
    plain = drop_batch_norm(DetectNet(model.architecture))
    plain.load_state_dict(_float_state(model))
    return plain.eval()


def _float_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights without the quantizers' ranges, on the CPU, in storage of their own."""
    return {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in model.state_dict().items()
        if "_quantizer." not in key
    }


def _insert_quantizers(model: DetectNet, names: list[str]) -> DetectNet:
    """Put modelopt's quantizers into `model` in place; only the named ones are enabled."""
    quantization = _import_modelopt()
    entries: list[dict[str, Any]] = [{"quantizer_name": "*", "enable": False}]
    for name in names:
        axis = 0 if name.endswith("weight_quantizer") else None
        entries.append({"quantizer_name": name, "cfg": {"num_bits": 8, "axis": axis}})
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


def _disable_observers(model: DetectNet) -> None:
    for name in observer_names(model):
        model.get_submodule(name).disable()  # type: ignore[operator]


def _quantizers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if name.endswith("_quantizer"):
            yield name, module


def _import_modelopt() -> ModuleType:
    """Import modelopt.torch.quantization and teach it the outputs of activation functions."""
    with _quietly():
        import modelopt.torch.quantization as quantization
        from modelopt.torch.quantization.nn import QuantModuleRegistry
        from modelopt.torch.quantization.nn.modules.quant_module import QuantInputBase

        for layer in (nn.ReLU, nn.ReLU6):
            if layer not in QuantModuleRegistry:
                QuantModuleRegistry.register({layer: f"nn.{layer.__name__}"})(QuantInputBase)
    return quantization


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep modelopt's prints and warnings about optional packages out of a stage's output."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
