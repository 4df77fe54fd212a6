"""A training that runs out of memory ends in one line that can be followed."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch

from benchmarks.train_point import random_samples
from stages.detectnet import memory_error, retraining, training
from stages.detectnet.compression_config import CalibrationConfig, RetrainConfig
from stages.detectnet.config import FitConfig
from stages.detectnet.errors import DetectNetError
from stages.detectnet.fit_state import CHECKPOINT
from stages.detectnet.memory import GIB, open_memory
from stages.detectnet.model import DetectNet, Outputs, build_architecture
from stages.detectnet.training import fit
from tests.stages.detectnet.pictures import INPUT_WH, POSTPROCESS, draw_samples
from tests.stages.detectnet.test_memory import FakeMemory

CONFIG = FitConfig(
    epochs=3, batch_size=16, precision="32-true", accelerator="cpu", validate_every_epochs=1
)
SAMPLES = draw_samples(20)


class FakeGpu(FakeMemory):
    """Every picture takes a GiB of 8, so that 8 fit and 7.2 leave a tenth."""

    def __init__(self) -> None:
        super().__init__(fixed_bytes=0, bytes_per_picture=GIB)


class Hungry(DetectNet):
    """A network that takes the made-up GPU's memory in training, after some healthy steps."""

    gpu = FakeGpu()

    def __init__(self, *, healthy_steps: int = 0) -> None:
        super().__init__(build_architecture(10, width=8, input_wh=list(INPUT_WH)))
        self.steps_left = healthy_steps

    def forward(self, images: torch.Tensor) -> Outputs:
        self.steps_left -= self.training
        if self.training and self.steps_left < 0:
            self.gpu.step(len(images))
        return super().forward(images)


@pytest.fixture(autouse=True)
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_error, "open_memory", lambda _device: Hungry.gpu)


def train(config: FitConfig, model: DetectNet, work_dir: Path | None = None) -> str:
    """Train until it fails, and return the message."""
    with pytest.raises(DetectNetError) as caught:
        fit(model, SAMPLES, SAMPLES, config, postprocess=POSTPROCESS, work_dir=work_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_line_says_what_there_is_what_fits_and_what_to_type() -> None:
    assert train(CONFIG, Hungry()) == (
        "out of memory in epoch 1 with batch_size 16: FakeGPU has 8.0 GiB, 8.0 GiB of it for "
        "this process; batch_size 4 fits (tried, 4.0 GiB at the peak), learning_rate may stay: "
        "dvc exp run -S '+overrides.train.batch_size=4'; no epoch was finished"
    )


def test_the_recommended_batch_size_trains() -> None:
    config = dataclasses.replace(CONFIG, batch_size=4, epochs=1)
    result = fit(Hungry(), SAMPLES, SAMPLES, config, postprocess=POSTPROCESS, work_dir=None)
    assert len(result.history) == 1


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_checkpoint_of_the_last_whole_epoch_stays(tmp_path: Path, precision: str) -> None:
    """Twenty pictures in batches of sixteen are two steps an epoch; the third is in epoch 2."""
    config = dataclasses.replace(CONFIG, precision=precision)
    message = train(config, Hungry(healthy_steps=2), tmp_path)
    assert message.startswith("out of memory in epoch 2 ")
    assert message.endswith("; the checkpoint of epoch 1 is kept for a run with the same settings")
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["epoch"] == 1
    resumed = fit(
        Hungry(healthy_steps=99),
        SAMPLES,
        SAMPLES,
        config,
        postprocess=POSTPROCESS,
        work_dir=tmp_path,
    )
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3]


def test_where_nothing_fits_the_network_must_shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hungry, "gpu", FakeMemory(fixed_bytes=9 * GIB, bytes_per_picture=0))
    message = train(CONFIG, Hungry())
    assert (
        "; not even one picture fits; lower model.input_wh (now 96x64) or model.width" in message
    )


def test_a_network_that_does_not_fit_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(training, "_prepare", fail)
    message = train(CONFIG, Hungry())
    assert message.startswith("out of memory before the first step: FakeGPU has 8.0 GiB")


@pytest.mark.parametrize("phase", ["float_fit", "qat_fit"])
def test_retraining_names_its_phase(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quantized copy of the network is tried as well: modelopt's modules can be copied."""
    small = dataclasses.replace(CONFIG, batch_size=4, epochs=1)
    fits = {"float_fit": small, "qat_fit": small, phase: dataclasses.replace(CONFIG, epochs=1)}
    config = RetrainConfig(**fits, calibration=CalibrationConfig(images=4), batch_norm_images=0)
    with pytest.raises(DetectNetError) as caught:
        retraining.retrain_model(
            Hungry(), SAMPLES, SAMPLES, config, postprocess=POSTPROCESS, work_dir=None
        )
    assert f"'+overrides.retrain.{phase}.batch_size=4'" in str(caught.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_the_recommended_batch_size_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may have 2 GiB; a picture takes some 40 MB, so that 256 do not fit."""
    monkeypatch.setattr(memory_error, "open_memory", open_memory)
    total_bytes = torch.cuda.get_device_properties(0).total_memory
    input_wh = [640, 352]
    samples = random_samples(64, input_wh)
    config = FitConfig(epochs=1, batch_size=256, devices="1", validate_every_epochs=0)

    def train_once(batch_size: int) -> None:
        torch.cuda.empty_cache()
        model = DetectNet(build_architecture(18, width=32, input_wh=input_wh))
        sized = dataclasses.replace(config, batch_size=batch_size)
        fit(model, samples, None, sized, postprocess=POSTPROCESS, work_dir=None)

    torch.cuda.set_per_process_memory_fraction(2 * GIB / total_bytes)
    try:
        with pytest.raises(DetectNetError) as caught:
            train_once(256)
        found = re.search(r"batch_size (\d+) fits \(tried, [12]\.\d GiB", str(caught.value))
        assert found, str(caught.value)
        assert 16 <= int(found[1]) < 128
        train_once(int(found[1]))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
