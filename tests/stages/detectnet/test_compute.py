"""Which precision is chosen, and why."""

from pathlib import Path

import pytest
import torch

from stages.detectnet import compute
from stages.detectnet.compute import choose_precision, cpu_flags


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
    monkeypatch.setattr(compute, "cpu_flags", lambda: flags)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_precision("auto", "auto").name == expected
    assert choose_precision("32-true", "auto") == ("32-true", "as configured")


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_gpu_precision(has_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_bf16)
    assert choose_precision("auto", "cuda").name == expected


def test_flags_are_read(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu avx512_bf16\n\nprocessor\t: 1\n")
    assert cpu_flags(path) == {"fpu", "avx512_bf16"}
    assert cpu_flags(tmp_path / "absent") == frozenset()
