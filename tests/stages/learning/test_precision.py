"""Which precision is chosen, and why."""

from pathlib import Path

import pytest
import torch

from stages.detectnet.model import DetectNet, build_architecture
from stages.learning import precision
from stages.learning.precision import (
    choose_memory_format,
    choose_precision,
    cpu_flags,
    min_input_channels,
)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (frozenset(), "32-true"),
        (frozenset({"avx512f"}), "32-true"),
        (frozenset({"avx512_bf16"}), "bf16-mixed"),
        (frozenset({"amx_bf16", "avx512_bf16"}), "bf16-mixed"),
    ],
)
def test_cpu_precision(
    flags: frozenset[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: flags)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_precision("auto", "auto", min_channels=16).name == expected
    assert choose_precision("32-true", "auto", min_channels=8) == ("32-true", "as configured")


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_gpu_precision(has_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_bf16)
    assert choose_precision("auto", "cuda", min_channels=8).name == expected


def test_flags_are_read(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu avx512_bf16\n\nprocessor\t: 1\n")
    assert cpu_flags(path) == {"fpu", "avx512_bf16"}
    assert cpu_flags(tmp_path / "absent") == frozenset()


def test_a_cpu_computes_narrow_convolutions_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 they corrupt memory: see MIN_CPU_CHANNELS."""
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_precision("auto", "cpu", min_channels=8).name == "32-true"


@pytest.mark.parametrize(
    ("device", "width", "expected"),
    [
        ("cpu", 8, torch.contiguous_format),
        ("cpu", 16, torch.channels_last),
        ("meta", 8, torch.channels_last),
    ],
)
def test_narrow_networks_keep_the_plain_order_on_a_cpu(
    device: str, width: int, expected: torch.memory_format
) -> None:
    model = DetectNet(build_architecture(10, width=width, input_wh=[64, 32]))
    assert choose_memory_format(model, torch.device(device)) == expected


@pytest.mark.parametrize(("width", "narrowest"), [(8, 8), (16, 16)])
def test_the_picture_does_not_count_as_a_narrow_input(width: int, narrowest: int) -> None:
    architecture = build_architecture(
        10, width=width, num_classes=1, input_wh=[64, 32], all_projections=True
    )
    assert min_input_channels(DetectNet(architecture)) == narrowest
