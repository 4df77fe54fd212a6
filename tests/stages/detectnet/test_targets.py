"""The rasteriser against a literal, slow form of NVIDIA's loops, and against the decoder."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.core.boxes import box_iou
from deploy.core.grid import Grid, decode_cells
from stages.detectnet.config import TargetConfig
from stages.detectnet.targets import Targets, fit_ellipses, rasterize_boxes

INPUT_WH = (96, 64)
Box = tuple[float, float, float, float]


def rasterize(boxes: Sequence[Box], config: TargetConfig | None = None) -> Targets:
    """Rasterise one picture's boxes; maps without the batch axis."""
    tensor = torch.tensor([boxes]) if boxes else torch.zeros(1, 1, 4)
    is_box = torch.full(tensor.shape[:2], bool(boxes))
    targets = rasterize_boxes(tensor, is_box, config or TargetConfig(), input_wh=INPUT_WH)
    return Targets(*(field[0] for field in targets))


def rasterize_slowly(boxes: Sequence[Box], config: TargetConfig) -> Targets:
    """NVIDIA's bbox_rasterizer.py and rasterize_bbox.h, cell by cell."""
    width, height = INPUT_WH[0] // 16, INPUT_WH[1] // 16
    coverage = np.zeros((1, height, width))
    weight = np.zeros((1, height, width))
    bbox = np.zeros((4, height, width))
    for box in sorted(boxes, key=lambda each: each[3]):
        x1, y1, x2, y2 = (value / 16 for value in box)
        cx = x1 + config.cov_center_x * (x2 - x1)
        cy = y1 + config.cov_center_y * (y2 - y1)
        sx = cx - x1 if config.cov_center_x < 0.5 else x2 - cx
        sy = cy - y1 if config.cov_center_y < 0.5 else y2 - cy
        csx, csy = max(config.cov_radius_x * sx, 0.1), max(config.cov_radius_y * sy, 0.1)
        minimum, dead = config.bbox_min_radius, config.deadzone_radius
        if csx < minimum:
            csx, csy = minimum, minimum * csy / csx
        if csy < minimum:
            csx, csy = minimum * csx / csy, minimum
        dsx = max((1 - dead) * csx + dead * sx, csx)
        dsy = max((1 - dead) * csy + dead * sy, csy)
        for row in range(height):
            for column in range(width):
                c = a = 0.0
                for i in range(4):
                    for j in range(4):
                        fx, fy = column + (i + 0.5) / 4 - cx, row + (j + 0.5) / 4 - cy
                        c += ((fx / csx) ** 2 + (fy / csy) ** 2 < 1) / 16
                        a += ((fx / dsx) ** 2 + (fy / dsy) ** 2 < 1) / 16
                if a > 0 and a >= coverage[0, row, column]:
                    coverage[0, row, column] = weight[0, row, column] = 0.0
                    bbox[:, row, column] = 0.0
                if c > 0 and c >= coverage[0, row, column]:
                    coverage[0, row, column] = c
                    weight[0, row, column] = c / max(4 * csx * csy, 1)
                    x, y = 16 * column + 0.5, 16 * row + 0.5
                    sides = (x - box[0], y - box[1], box[2] - x, box[3] - y)
                    bbox[:, row, column] = [side / 35 for side in sides]
    return Targets(*(torch.tensor(field) for field in (coverage, bbox, weight)))


# Odd eighths never put a supersample exactly on an ellipse's edge, where rounding would decide.
coordinates = st.integers(-160, 800).map(lambda eighth: eighth / 8 + 1 / 37)
sizes = st.integers(8, 640).map(lambda eighth: eighth / 8 + 1 / 41)
boxes_of_pictures = st.lists(
    st.tuples(coordinates, coordinates, sizes, sizes).map(
        lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
    ),
    max_size=5,
    unique_by=lambda box: box[3],
)
configs = st.sampled_from(
    [
        TargetConfig(),
        TargetConfig(cov_radius_x=0.7, cov_radius_y=0.5, bbox_min_radius=0.6),
        TargetConfig(cov_center_x=0.3, cov_center_y=0.6, deadzone_radius=1.0),
        TargetConfig(bbox_min_radius=0.1, deadzone_radius=0.0),
    ]
)


@settings(max_examples=60, deadline=None)
@given(boxes=boxes_of_pictures, config=configs)
def test_maps_equal_the_literal_loops(boxes: list[Box], config: TargetConfig) -> None:
    fast, slow = rasterize(boxes, config), rasterize_slowly(boxes, config)
    for name in Targets._fields:
        # One supersample of 16 may fall on the other side of an edge in float32.
        difference = (getattr(fast, name) - getattr(slow, name)).abs()
        assert (difference > 1e-3).float().mean() <= 0.02, name
    assert (fast.coverage - slow.coverage).abs().max() <= 1 / 8


def test_no_boxes_give_empty_maps() -> None:
    assert all(field.abs().max() == 0 for field in rasterize([]))


def test_one_box_by_hand() -> None:
    """A 32 x 32 box around (40, 40): half size 1 cell, so the radius is bbox_min_radius."""
    targets = rasterize([(24.0, 24.0, 56.0, 56.0)])
    # Samples of cell (2, 2) are at most hypot(.375, .375) = .53 from the centre (2.5, 2.5).
    assert targets.coverage[0, 2, 2] == 1.0
    # Cell (2, 3): dx is .625 to 1.375, dy to .375: inside are .625 and .875 at every dy.
    assert targets.coverage[0, 2, 3] == 0.5
    # Cell (3, 3): of dx, dy in {.625, .875, ...} only (.625, .625) is within 1.
    assert targets.coverage[0, 3, 3] == 1 / 16
    expected = [(32.5 - 24) / 35, (32.5 - 24) / 35, (56 - 32.5) / 35, (56 - 32.5) / 35]
    assert targets.bbox[:, 2, 2].tolist() == pytest.approx(expected)
    assert targets.bbox_weight[0, 2, 2].item() == pytest.approx(1 / 4)


def test_minimum_radius_keeps_the_aspect() -> None:
    """Radii 0.4 x (0.5, 1) = (0.2, 0.4) cells: x grows to 1 and y to 2."""
    ellipses = fit_ellipses(torch.tensor([[[0.0, 0.0, 1.0, 2.0]]]), TargetConfig())
    assert ellipses.radius[0, 0].tolist() == pytest.approx([1.0, 2.0])
    assert ellipses.deadzone[0, 0].tolist() == pytest.approx([1.0, 2.0])
    assert ellipses.inverse_area.item() == pytest.approx(1 / 8)


def test_lower_box_is_drawn_last() -> None:
    """Whatever the order given, the box with the lower bottom edge keeps the shared cells."""
    upper, lower = (16.0, 8.0, 48.0, 40.0), (16.0, 16.0, 48.0, 48.0)
    first, second = rasterize([lower, upper]), rasterize([upper, lower])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert first.bbox[3, 2, 1].item() == pytest.approx((48 - 32.5) / 35)


def test_dead_zone_erases_and_leaves_nothing_outside_its_ellipse() -> None:
    """A large dead zone (all of the box) around a small ellipse, drawn over a wide upper box."""
    config = TargetConfig(cov_radius_x=0.4, cov_radius_y=0.4, deadzone_radius=1.0)
    upper, lower = (0.0, 0.0, 96.0, 48.0), (16.0, 0.0, 80.0, 64.0)
    # Cell (2, 1): outside lower's coverage ellipse (1.5 cells from 3 on), inside its dead zone.
    targets = rasterize([upper, lower], config)
    assert rasterize([upper], config).coverage[0, 0, 2] > 0
    assert targets.coverage[0, 0, 2] == 0
    assert targets.bbox[:, 0, 2].abs().max() == 0


@settings(max_examples=40, deadline=None)
@given(boxes=boxes_of_pictures)
def test_every_covered_cell_decodes_to_one_of_the_boxes(boxes: list[Box]) -> None:
    targets = rasterize(boxes)
    cells = decode_cells(
        targets.coverage.numpy(), targets.bbox.numpy(), Grid(), coverage_threshold=0.0
    )
    if len(cells.xyxy):
        iou = box_iou(cells.xyxy, np.array(boxes, dtype=np.float32))
        assert iou.max(axis=1).min() > 0.999


def test_decoding_finds_every_box_that_stands_alone() -> None:
    boxes = [(3.0, 5.0, 20.0, 30.0), (50.0, 10.0, 90.0, 60.0)]
    targets = rasterize(boxes)
    cells = decode_cells(
        targets.coverage.numpy(), targets.bbox.numpy(), Grid(), coverage_threshold=0.5
    )
    iou = box_iou(np.array(boxes, dtype=np.float32), cells.xyxy)
    assert (iou.max(axis=1) > 0.999).all()


def paint_by_the_book(
    boxes: torch.Tensor, is_box: torch.Tensor, config: TargetConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw box after box on its own; coverage (h, w) and the index of the box in each cell."""
    width, height = INPUT_WH[0] // 16, INPUT_WH[1] // 16
    x, y = ((torch.arange(side * 4) + 0.5) / 4 for side in (width, height))
    ellipses = fit_ellipses(boxes[None] / 16, config)
    best = torch.zeros(height, width)
    owner = torch.zeros(height, width, dtype=torch.long)

    def inside(center: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
        dx, dy = ((x - center[0]) / radius[0]) ** 2, ((y - center[1]) / radius[1]) ** 2
        is_inside = dy[:, None] + dx < 1.0
        return is_inside.view(height, 4, width, 4).float().mean(dim=(1, 3))

    for index in boxes[:, 3].argsort(stable=True).tolist():
        if not is_box[index]:
            continue
        center = ellipses.center[0, index]
        dead = inside(center, ellipses.deadzone[0, index])
        is_drawn = (dead > 0) & (dead >= best)
        best = torch.where(is_drawn, inside(center, ellipses.radius[0, index]), best)
        owner = torch.where(is_drawn, index, owner)
    return best, owner


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), config=configs)
def test_boxes_painted_together_are_those_painted_in_turn(seed: int, config: TargetConfig) -> None:
    """Exactly, with padding anywhere, equal bottom edges, and boxes outside the picture."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.randint(-40, 90, (5, 2), generator=generator).float()
    boxes = torch.cat([low, low + torch.randint(1, 60, (5, 2), generator=generator)], dim=1)
    boxes[3, 3] = boxes[1, 3] = boxes[:, 1].max() + 9.0
    is_box = torch.rand(5, generator=generator) < 0.7
    targets = rasterize_boxes(boxes[None], is_box[None], config, input_wh=INPUT_WH)
    best, owner = paint_by_the_book(boxes, is_box, config)
    assert torch.equal(targets.coverage[0, 0], best)
    area = fit_ellipses(boxes[None] / 16, config).inverse_area[0]
    assert torch.equal(targets.bbox_weight[0, 0], best * area[owner])
    left = 16.0 * torch.arange(INPUT_WH[0] // 16) + 0.5 - boxes[owner, 0]
    assert torch.equal(targets.bbox[0, 0], left / 35.0 * (best > 0))


def test_padding_draws_nothing() -> None:
    boxes = torch.tensor([[[8.0, 8.0, 60.0, 60.0], [0.0, 0.0, 90.0, 60.0]]])
    config = TargetConfig()
    padded = rasterize_boxes(boxes, torch.tensor([[True, False]]), config, input_wh=INPUT_WH)
    alone = rasterize_boxes(boxes[:, :1], torch.tensor([[True]]), config, input_wh=INPUT_WH)
    assert all(torch.equal(a, b) for a, b in zip(padded, alone, strict=True))
    assert padded.coverage.max() > 0.9
