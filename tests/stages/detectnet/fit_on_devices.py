"""Train on several devices of a CPU and write down what each process did.

Run: python -m tests.stages.detectnet.fit_on_devices --devices 2 --batch 8 --out DIR, or the same
behind torchrun. Writes DIR/<rank>.json: the pictures of each step, and the history.
"""

import argparse
import json
from pathlib import Path

import torch

from stages.detectnet.config import FitConfig, LossConfig, OptimizerConfig
from stages.detectnet.feed import Feed
from stages.detectnet.model import DetectNet, build_architecture
from stages.detectnet.training import fit
from tests.stages.detectnet.pictures import INPUT_WH, POSTPROCESS, draw_samples

NUM_SAMPLES = 22


def main() -> None:
    """Parse arguments, train, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", default="auto")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    write_fit(args.devices, args.batch, args.out)


def write_fit(devices: str, batch_size: int, out: Path) -> None:
    """Train three epochs without what is different on each device by intention.

    That is batch normalisation's statistics and the normalisers of the balanced losses.
    """
    config = FitConfig(
        epochs=3,
        batch_size=batch_size,
        devices=devices,
        accelerator="cpu",
        precision="32-true",
        learning_rate=1e-3,
        freeze_batch_norm=True,
        validate_every_epochs=0,
        loss=LossConfig(coverage="tao", bbox="tao"),
        optimizer=OptimizerConfig(name="adamw"),
    )
    torch.manual_seed(3)
    model = DetectNet(build_architecture(10, width=4, input_wh=list(INPUT_WH)))
    with RecordedFeed() as pictures:
        result = fit(
            model, draw_samples(NUM_SAMPLES), None, config, postprocess=POSTPROCESS, work_dir=None
        )
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    content = {"pictures": pictures, "history": result.history, "is_main": result.is_main}
    (out / f"{rank}.json").write_text(json.dumps(content))


class RecordedFeed:
    """Write down the pictures of every batch while the block runs."""

    def __enter__(self) -> list[list[int]]:
        pictures: list[list[int]] = []
        self.real_batch = real_batch = Feed.batch

        def batch(feed: Feed, indices: torch.Tensor) -> object:
            pictures.append(indices.tolist())
            return real_batch(feed, indices)

        Feed.batch = batch  # type: ignore[method-assign,assignment]
        return pictures

    def __exit__(self, *_: object) -> None:
        Feed.batch = self.real_batch  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
