"""Small networks with lively statistics, for the tests of compression and export."""

import copy

import pytest
import torch
from torch import nn

from deploy.core.cluster import Postprocess
from stages.detectnet import exporting
from stages.detectnet.model import DetectNet, build_architecture
from stages.detectnet.rounding import observer_names, quantizer_names

INPUT_WH = [96, 64]
POSTPROCESS = Postprocess("nms", 0.05, 0.3, 1.0, 0.4, "max", 0.5, 4.0)


def tiny_model(*, num_layers: int = 10, width: int = 8, all_projections: bool = True) -> DetectNet:
    """Make a network whose batch normalisation is far from the identity, in eval mode."""
    generator = torch.Generator().manual_seed(num_layers + width)
    architecture = build_architecture(
        num_layers, width=width, input_wh=INPUT_WH, all_projections=all_projections
    )
    model = DetectNet(architecture)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5, generator=generator)
            nn.init.normal_(layer.bias, std=0.1, generator=generator)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.2, generator=generator)
            nn.init.uniform_(layer.running_var, 0.5, 2.0, generator=generator)
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(layer.bias, std=0.2, generator=generator)
    return model.eval()


def tiny_images(count: int = 2) -> torch.Tensor:
    """Draw smooth random images (count, 3, 64, 96) in [0, 1]."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, INPUT_WH[1] // 8, INPUT_WH[0] // 8, generator=generator)
    return nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear").clamp(0.0, 1.0)


def known_ranges(
    model: DetectNet,
    images: torch.Tensor,
    *,
    quantize_heads: bool = True,
    placement: str = "fused",
    weight_axis: str = "channel",
) -> dict[str, torch.Tensor]:
    """Measure a folded network's largest absolute values with hooks, by quantizer name."""
    names = quantizer_names(model, quantize_heads=quantize_heads, placement=placement)
    names += observer_names(model, placement=placement)
    ranges = {}

    def measure(name: str, values: torch.Tensor) -> None:
        ranges[name] = values.detach().abs().max().reshape(1)

    handles = []
    for name in names:
        layer = model.get_submodule(name.rpartition(".")[0])
        if name.endswith("weight_quantizer"):
            largest = layer.weight.detach().abs().flatten(1).amax(dim=1)
            ranges[name] = largest if weight_axis == "channel" else largest.max()
        elif name.endswith("output_quantizer"):
            hook = lambda _layer, _inputs, output, name=name: measure(name, output)  # noqa: E731
            handles.append(layer.register_forward_hook(hook))
        else:
            measure(name, images)
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return ranges


def write_another_network(monkeypatch: pytest.MonkeyPatch, *, opset: int) -> None:
    """Let the file of one opset come from a network that is less sure of every hand."""
    export_onnx = exporting.export_onnx

    def export_another(model: nn.Module, *, opset: int) -> object:
        if opset == wrong:
            model = copy.deepcopy(model)
            with torch.no_grad():
                model.get_submodule("output_cov").bias.sub_(0.5)
        return export_onnx(model, opset=opset)

    wrong = opset
    monkeypatch.setattr(exporting, "export_onnx", export_another)
