"""The places of joints: read off heatmaps, compared where they are known, learned."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from deploy.core.roi import RoiRule
from stages.gesturenet.config import GestureAugmentConfig, GestureConfig
from stages.gesturenet.joint_head import (
    SMOOTH_FRAC,
    JointHead,
    Learner,
    expected_places,
    joint_loss,
)
from stages.gesturenet.model import Architecture, GestureClassifier
from stages.gesturenet.training import fit
from tests.stages.gesturenet.samples import striped_crops


def test_a_peak_is_at_the_middle_of_its_cell() -> None:
    heat = torch.zeros(1, 2, 4, 5)
    heat[0, 0, 1, 3] = 100.0
    assert expected_places(heat)[0, 0].tolist() == pytest.approx([3.5 / 5, 1.5 / 4])
    assert expected_places(heat)[0, 1].tolist() == pytest.approx([0.5, 0.5])


def test_only_known_joints_within_the_picture_count() -> None:
    found = torch.full((1, 21, 2), 0.5, requires_grad=True)
    joints = torch.full((1, 21, 2), math.nan)
    joints[0, 0] = torch.tensor([0.7, 0.5])
    joints[0, 1] = torch.tensor([1.2, 0.5])
    loss = joint_loss(found, joints)
    assert float(loss.detach()) == pytest.approx((0.2 - SMOOTH_FRAC / 2) / 2)
    loss.backward()
    assert found.grad is not None
    assert torch.isfinite(found.grad).all()
    assert found.grad[0, 1:].abs().max() == 0


def test_without_any_known_joint_the_loss_is_zero() -> None:
    found = torch.full((2, 21, 2), 0.5, requires_grad=True)
    loss = joint_loss(found, torch.full((2, 21, 2), math.nan))
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_the_learner_gives_what_the_model_gives() -> None:
    torch.manual_seed(0)
    architecture = Architecture(width=4, blocks=(1, 2, 1))
    model = GestureClassifier(architecture).eval()
    learner = Learner(model, JointHead(architecture)).eval()
    images = torch.rand(3, 3, 160, 160)
    logits, joints = learner(images)
    assert torch.equal(logits, model.logits(images))
    assert joints.shape == (3, 21, 2)
    assert Learner(model, None)(images)[1] is None


def test_joints_are_learned_beside_the_classes(tmp_path: Path) -> None:
    crops = striped_crops(8, size_px=96)
    angle = np.deg2rad(30 * crops.class_id)
    along = np.linspace(-20, 20, 21)  # of the bar, in pixels from its middle
    joints = 48 + along[None, :, None] * np.stack([np.cos(angle), np.sin(angle)], 1)[:, None]
    crops = crops._replace(joints=joints.astype(np.float32))
    losses = {}
    for weight in (0.0, 20.0):
        config = GestureConfig(
            width=4,
            epochs=12,
            batch_size=16,
            resolutions=[64],
            joints_weight=weight,
            label_smoothing=0.0,
            accelerator="cpu",
            precision="32-true",
            augment=GestureAugmentConfig(enabled=False),
        )
        folder = tmp_path / str(weight)
        folder.mkdir()
        rows: list[dict[str, float]] = []
        val = striped_crops(1, size_px=64, box_frac=0.7)
        fit(crops, val, config, rule=RoiRule(), work_dir=folder, log=rows.append)
        losses[weight] = [row["loss"] for row in rows]
        assert rows[-1]["val_accuracy"] > 0.8
    assert losses[20.0][0] > losses[0.0][0] + 1  # the joints' error is part of it
    assert losses[20.0][-1] < 0.5 * losses[20.0][0]
