"""Mosaics and pasted pieces: boxes stand where the pixels went, decoys have none."""

from collections.abc import Iterator

import pytest
import torch

from stages.detectnet import mixing
from stages.detectnet.augment import augment_batch
from stages.detectnet.config import AugmentConfig, TargetConfig
from stages.detectnet.feed import seeded
from stages.detectnet.mixing import Chances, mix_mosaics, paste_pieces
from stages.detectnet.targets import rasterize_boxes
from stages.detectnet.warp import Batch, affine_matrices
from tests.stages.detectnet.pictures import STILL

WIDTH, HEIGHT = 96, 64
LEVELS = (60, 120, 180, 240)


def squares() -> Batch:
    """Four pictures, each with one square of its own brightness on black."""
    images = torch.zeros(4, HEIGHT, WIDTH, 3, dtype=torch.uint8)
    boxes = torch.zeros(4, 2, 4)
    for index, level in enumerate(LEVELS):
        x, y = 8 + 16 * index, 12 + 6 * index
        images[index, y : y + 16, x : x + 20] = level
        boxes[index, 0] = torch.tensor([x, y, x + 20, y + 16])
    return Batch(images, boxes, torch.tensor([[True, False]] * 4))


def changed(**options: object) -> AugmentConfig:
    return AugmentConfig(**{**vars(STILL), **options})  # type: ignore[arg-type]


def shown_boxes(batch: Batch, index: int) -> Iterator[list[int]]:
    for box, is_box in zip(batch.boxes[index], batch.is_box[index], strict=True):
        if is_box:
            yield [round(float(side)) for side in box]


def test_mosaic_boxes_frame_their_squares() -> None:
    batch = squares()
    still = affine_matrices(move_x=torch.zeros(4))
    config = changed(mosaic_probability=1.0)
    num_whole = 0
    for seed in range(5):
        mosaic = mix_mosaics(batch, batch, still, config, Chances(seeded(seed), 4))
        assert mosaic.boxes.shape == (4, 8, 4)
        for index in range(4):
            levels = mosaic.images[index].max(dim=2).values
            for x1, y1, x2, y2 in shown_boxes(mosaic, index):
                if min(x1, y1, WIDTH - x2, HEIGHT - y2) < 1:
                    continue
                num_whole += 1
                inside = levels[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]
                assert int(inside.min()) == int(inside.max())
                assert int(inside.min()) in LEVELS
    assert num_whole >= 8


def test_mosaic_of_equal_pictures_has_no_dark_seam() -> None:
    images = torch.full((4, HEIGHT, WIDTH, 3), 200, dtype=torch.uint8)
    batch = Batch(images, torch.zeros(4, 1, 4), torch.zeros(4, 1).bool())
    still = affine_matrices(move_x=torch.zeros(4))
    config = changed(mosaic_probability=1.0)
    mosaic = mix_mosaics(batch, batch, still, config, Chances(seeded(1), 4))
    assert mosaic.images.float().sub(200).abs().max() <= 2


def test_pictures_without_mosaic_stay() -> None:
    batch = squares()
    config = changed(mosaic_probability=0.5)
    still = affine_matrices(move_x=torch.zeros(4))
    mosaic = mix_mosaics(batch, batch, still, config, Chances(seeded(3), 4))
    is_same = [torch.equal(mosaic.images[i], batch.images[i]) for i in range(4)]
    assert 0 < sum(is_same) < 4
    for index in range(4):
        if is_same[index]:
            assert list(shown_boxes(mosaic, index)) == list(shown_boxes(batch, index))


def paste(seed: int, **options: object) -> tuple[Batch, Batch]:
    """Squares and what becomes of them when something is pasted wherever it may be."""
    batch = squares()
    config = changed(paste_probability=1.0, **options)
    return batch, paste_pieces(batch, batch, config, Chances(seeded(seed), 4))


@pytest.mark.parametrize("seed", range(8))
def test_a_pasted_hand_is_bright_in_the_middle_of_its_box(seed: int) -> None:
    _, pasted = paste(seed, paste_decoy_frac=0.0)
    for index in range(4):
        if not pasted.is_box[index, 2]:
            continue
        x1, y1, x2, y2 = pasted.boxes[index, 2].tolist()
        assert min(x1, y1, WIDTH - x2, HEIGHT - y2) >= 0
        middle = pasted.images[index, int((y1 + y2) / 2), int((x1 + x2) / 2)]
        assert int(middle.max()) in LEVELS


def blend_by_the_book(
    batch: Batch, moved: Batch, draws: mixing.Pastes, **where: torch.Tensor
) -> torch.Tensor:
    """Each new pixel's old place, its distance from the ellipse's edge, and the weighted mean."""
    source, spatial, is_pasted = where["source"], where["spatial"], where["is_pasted"]
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], dim=2)  # (H, W, 3)
    old = (pixels @ torch.linalg.inv(spatial)[:, None].transpose(2, 3))[..., :2]  # (B, H, W, 2)
    center = (source[:, :, :2] + source[:, :, 2:]) / 2.0  # (B, 1, 2)
    half = ((source[:, :, 2:] - source[:, :, :2]) / 2.0).clamp_min(1.0)
    radius = ((old - center[:, None]) / half[:, None]).norm(dim=3)
    edge = draws.edge[:, None, None]
    mask = ((1.0 + edge - radius) / edge).clamp(0.0, 1.0) * is_pasted[:, None, None]
    grid = old / torch.tensor([WIDTH / 2.0, HEIGHT / 2.0]) - 1.0
    planes = batch.images[draws.donor].permute(0, 3, 1, 2).float()
    pasted = torch.nn.functional.grid_sample(planes, grid, align_corners=False)
    return moved.images + mask[..., None] * (pasted.permute(0, 2, 3, 1) - moved.images)


@pytest.mark.parametrize("num_pasted", [0, 1, 3, 4])
def test_pieces_are_blended_as_the_formula_says(num_pasted: int) -> None:
    batch = squares()
    noise = torch.rand(4, HEIGHT, WIDTH, 3, generator=seeded(1)) * 255.0
    moved = batch._replace(images=noise)
    draws = mixing._draw_pastes(batch, changed(), Chances(seeded(2), 4), num_places=2)
    source = batch.boxes[draws.donor][:, :1]
    spatial = mixing._place(source, draws, draws.target * torch.tensor([WIDTH, HEIGHT]))
    is_pasted = torch.arange(4) < num_pasted
    found = mixing._blend(batch, moved, draws, source, spatial, is_pasted)
    expected = blend_by_the_book(
        batch, moved, draws, source=source, spatial=spatial, is_pasted=is_pasted
    )
    # float32 coordinates up to 96 times slopes up to 240 levels a pixel.
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=0.0)
    is_changed = (found != noise).flatten(1).any(dim=1)
    assert is_changed.tolist() == is_pasted.tolist()
    assert torch.equal(moved.images, noise)


def test_only_pixels_are_needed_where_the_pictures_are() -> None:
    """Tensors on "meta" have no values: whoever waits for one fails."""
    config = changed(
        mosaic_probability=0.5, paste_probability=1.0, paste_tries=2, paste_beside_frac=0.5
    )
    batch = squares()
    _, boxes, is_box = augment_batch(batch, config, seeded(9))
    there = batch._replace(images=batch.images.to("meta"))
    images, *found = augment_batch(there, config, seeded(9))
    assert (images.device.type, images.shape) == ("meta", (4, 3, HEIGHT, WIDTH))
    assert torch.equal(found[0], boxes)
    assert torch.equal(found[1], is_box)
    targets = rasterize_boxes(
        boxes, is_box, TargetConfig(), input_wh=(WIDTH, HEIGHT), device=images.device
    )
    assert {values.device.type for values in targets} == {"meta"}


def test_pastes_happen_and_hide_what_lies_below() -> None:
    results = [paste(seed, paste_decoy_frac=0.0)[1] for seed in range(30)]
    num_pasted = sum(int(result.is_box[:, 2].sum()) for result in results)
    num_kept = sum(int(result.is_box[:, 0].sum()) for result in results)
    assert num_pasted > 30
    assert 60 < num_kept < 120


@pytest.mark.parametrize("frac", [0.0, 1.0])
def test_hands_beside_another_touch_it(frac: float) -> None:
    batch = squares()
    config = changed(paste_probability=1.0, paste_decoy_frac=0.0, paste_beside_frac=frac)
    touching = []
    for seed in range(30):
        pasted = paste_pieces(batch, batch, config, Chances(seeded(seed), 4))
        for index in pasted.is_box[:, 2].nonzero().flatten().tolist():
            own, new = batch.boxes[index, 0], pasted.boxes[index, 2]
            shared = torch.minimum(own[2:], new[2:]) - torch.maximum(own[:2], new[:2])
            touching.append(bool((shared > 0).all()))
    assert len(touching) > 20
    assert all(touching) == (frac == 1.0)


def test_decoys_add_no_box_and_hold_no_hand() -> None:
    for seed in range(10):
        batch, pasted = paste(seed, paste_decoy_frac=1.0)
        assert not bool(pasted.is_box[:, 2].any())
        # All that is not a square is black, so that a decoy can only darken.
        assert bool((pasted.images <= batch.images).all())


def test_both_mixtures_run_inside_augmentation_and_repeat() -> None:
    config = changed(mosaic_probability=0.5, paste_probability=0.5, paste_tries=2)
    first, again = (augment_batch(squares(), config, seeded(9)) for _ in range(2))
    assert first[0].shape == (4, 3, HEIGHT, WIDTH)
    assert first[1].shape == (4, 2 * 4 + 2, 4)
    assert torch.equal(first[0], again[0])
    other = augment_batch(squares(), config, seeded(9), rank=1, world_size=2)
    assert not torch.equal(first[0], other[0])
