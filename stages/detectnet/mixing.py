"""Pictures made of several: mosaics of four, and hands pasted from one picture into another.

Both use the pictures of the batch itself and take their random numbers on the CPU. Sources:
Bochkovskiy et al., YOLOv4, 2020 (mosaic); Ghiasi et al., Simple Copy-Paste, CVPR 2021.
"""

import math
from typing import NamedTuple

import torch
from torch.nn.functional import grid_sample

from stages.detectnet.config import AugmentConfig
from stages.detectnet.warp import (
    BOX_TRANSFORMS,
    Batch,
    affine_matrices,
    map_pixels,
    transform_ellipses,
    warp_images,
)

TILES = ((0, 0), (1, 0), (0, 1), (1, 1))  # column and row of each picture of a mosaic
MEETING_RANGE = (0.2, 0.8)  # where the four meet, as a fraction of width and height
PASTE_ZOOM = 1.6
PASTE_ROTATION_RAD = 0.4
PASTE_EDGE = (0.05, 0.4)  # the ellipse fades from radius 1 to this much beyond its box
HIDDEN_FRAC = 0.5  # a hand of which more is pasted over does not count


class Chances:
    """Random numbers per picture of one device's batch, drawn for the batches of all devices.

    The generator advances equally everywhere, and no two devices get the same numbers.
    """

    def __init__(
        self, generator: torch.Generator, num_images: int, *, rank: int = 0, world_size: int = 1
    ) -> None:
        self._generator = generator
        self._total = num_images * world_size
        self._own = slice(rank * num_images, (rank + 1) * num_images)

    def uniform(self, *shape: int) -> torch.Tensor:
        """Numbers in [0, 1), (B, *shape)."""
        return torch.rand(self._total, *shape, generator=self._generator)[self._own]

    def permutation(self) -> torch.Tensor:
        """The batch's indices in random order, (B,) int64."""
        return self.uniform().argsort()


class Pastes(NamedTuple):
    """Per picture: the picture that gives (B,), whether it does (B,), which of its boxes first
    (B, M), whether a piece elsewhere is meant instead (B,) and where (B, 2), where to (B, 2), both
    in fractions of the size, the linear map (B, 2, 2), the width of the soft edge (B,), and
    whether a hand goes beside another instead (B,), beside which (B, M'), and in which direction
    (B, 2)."""

    donor: torch.Tensor
    is_drawn: torch.Tensor
    preference: torch.Tensor
    is_decoy: torch.Tensor
    origin: torch.Tensor
    target: torch.Tensor
    linear: torch.Tensor
    edge: torch.Tensor
    is_beside: torch.Tensor
    neighbour: torch.Tensor
    direction: torch.Tensor


def mix_mosaics(
    batch: Batch,
    moved: Batch,
    spatial: torch.Tensor,
    config: AugmentConfig,
    chances: Chances,
) -> Batch:
    """Replace some moved pictures by mosaics of themselves and three others of the batch.

    The four lie side by side and are moved together by the picture's own spatial matrix
    (B, 3, 3). Boxes become four times as many places, (B, 4 M, 4).
    """
    num_images, height, width = batch.images.shape[:3]
    is_mosaic = chances.uniform() < config.mosaic_probability
    low, high = MEETING_RANGE
    meeting = low + (high - low) * chances.uniform(2)
    others = [chances.permutation() for _ in TILES[1:]]
    rows = is_mosaic.nonzero().flatten()
    images, boxes = moved.images.clone(), [moved.boxes]
    is_box = [moved.is_box]
    whole = torch.zeros(len(rows), height, width, 3, device=images.device)
    for (column, row), source in zip(TILES, [torch.arange(num_images), *others], strict=True):
        place = affine_matrices(
            move_x=width * (meeting[:, 0] - 1.0 + column),
            move_y=height * (meeting[:, 1] - 1.0 + row),
        )
        matrices = (spatial @ place)[rows]
        chosen = source[rows].to(batch.images.device, non_blocking=True)
        whole += warp_images(batch.images[chosen], matrices)
        move = BOX_TRANSFORMS[config.rotated_boxes]
        boxes.append(move(batch.boxes[source], spatial @ place))
        is_box.append(batch.is_box[source])
    # The weights of neighbouring pictures at a seam add up to one.
    places = rows.to(images.device, non_blocking=True)
    images[places] = whole.round_().clamp_(0.0, 255.0).to(images.dtype)
    shown = is_mosaic[:, None]
    single = torch.cat([is_box[0], *(torch.zeros_like(part) for part in is_box[2:])], dim=1)
    first = torch.cat([boxes[0], *(torch.zeros_like(part) for part in boxes[2:])], dim=1)
    return Batch(
        images,
        torch.where(shown[..., None], torch.cat(boxes[1:], dim=1), first),
        torch.where(shown, torch.cat(is_box[1:], dim=1), single),
    )


def paste_pieces(batch: Batch, moved: Batch, config: AugmentConfig, chances: Chances) -> Batch:
    """Paste a piece of another picture of the batch into some of the moved pictures.

    A piece is the ellipse inside a hand's box, mirrored, turned and scaled at random; it lies
    wholly inside the picture or not at all, anywhere or so that it touches a hand that is there. A
    decoy is an ellipse of such a size without a hand: without decoys the network would learn to
    find the seams. Boxes get one more place, (B, M + 1, 4).
    """
    height, width = batch.images.shape[1:3]
    draws = _draw_pastes(batch, config, chances, num_places=moved.is_box.shape[1])
    best, index = (draws.preference * batch.is_box[draws.donor]).max(dim=1)
    hand = batch.boxes[draws.donor].gather(1, index[:, None, None].expand(-1, 1, 4))  # (B, 1, 4)
    size = torch.tensor([float(width), float(height)])
    elsewhere = _recenter(hand, draws.origin * size)
    source = torch.where(draws.is_decoy[:, None, None], elsewhere, hand)
    spatial = _place(source, draws, _aim(source, moved, draws, size))
    box = transform_ellipses(source, spatial)
    inside = ((box >= 0.0) & (box <= size.repeat(2))).all(dim=2)[:, 0]
    faded = _widen(source, 1.0 + draws.edge)
    is_touched = (_covered_frac(batch.boxes[draws.donor], faded) > 0.0) & batch.is_box[draws.donor]
    is_wrong = draws.is_decoy & is_touched.any(dim=1)
    is_pasted = draws.is_drawn & (best > 0.0) & inside & ~is_wrong
    images = _blend(batch, moved, draws, source, spatial, is_pasted)
    hidden = _covered_frac(moved.boxes, box) > HIDDEN_FRAC
    kept = moved.is_box & ~(hidden & is_pasted[:, None])
    is_hand = (is_pasted & ~draws.is_decoy)[:, None]
    return Batch(images, torch.cat([moved.boxes, box], dim=1), torch.cat([kept, is_hand], dim=1))


def _draw_pastes(
    batch: Batch, config: AugmentConfig, chances: Chances, *, num_places: int
) -> Pastes:
    zoom = PASTE_ZOOM ** (2.0 * chances.uniform() - 1.0)
    angle = PASTE_ROTATION_RAD * (2.0 * chances.uniform() - 1.0)
    flip = torch.where(chances.uniform() < 0.5, -1.0, 1.0)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    linear = torch.stack([cos * flip, -sin, sin * flip, cos], dim=1).view(-1, 2, 2)
    low, high = PASTE_EDGE
    return Pastes(
        donor=chances.permutation(),
        is_drawn=chances.uniform() < config.paste_probability,
        preference=0.01 + chances.uniform(batch.is_box.shape[1]),
        is_decoy=chances.uniform() < config.paste_decoy_frac,
        origin=chances.uniform(2),
        target=chances.uniform(2),
        linear=linear,
        edge=low + (high - low) * chances.uniform(),
        is_beside=chances.uniform() < config.paste_beside_frac,
        neighbour=0.01 + chances.uniform(num_places),
        direction=_directions(chances.uniform()),
    )


def _directions(turns: torch.Tensor) -> torch.Tensor:
    """Unit vectors (B, 2) of turns (B,) in [0, 1)."""
    angle = 2.0 * math.pi * turns
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def _aim(source: torch.Tensor, moved: Batch, draws: Pastes, size: torch.Tensor) -> torch.Tensor:
    """Say where the centres of source (B, 1, 4) go, in pixels (B, 2).

    Beside a hand: the two ellipses overlap by a tenth of the distance between their centres.
    """
    anywhere = draws.target * size
    best, index = (draws.neighbour * moved.is_box).max(dim=1)
    hand = moved.boxes.gather(1, index[:, None, None].expand(-1, 1, 4))[:, 0]
    half = (source[:, 0, 2:] - source[:, 0, :2]) / 2.0
    reach = (draws.linear**2 @ half[:, :, None] ** 2)[:, :, 0].sqrt()
    reach = reach + (hand[:, 2:] - hand[:, :2]) / 2.0
    beside = (hand[:, :2] + hand[:, 2:]) / 2.0 + 0.9 * reach * draws.direction
    is_beside = draws.is_beside & (best > 0.0) & ~draws.is_decoy
    return torch.where(is_beside[:, None], beside, anywhere)


def _recenter(boxes: torch.Tensor, center: torch.Tensor) -> torch.Tensor:
    """Move boxes (B, 1, 4) to centres (B, 2) of their own."""
    half = (boxes[..., 2:] - boxes[..., :2]) / 2.0
    return torch.cat([center[:, None] - half, center[:, None] + half], dim=2)


def _widen(boxes: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Scale boxes (B, 1, 4) about their centres by factor (B,)."""
    center = (boxes[..., :2] + boxes[..., 2:]) / 2.0
    half = (boxes[..., 2:] - boxes[..., :2]) / 2.0 * factor[:, None, None]
    return torch.cat([center - half, center + half], dim=2)


def _place(source: torch.Tensor, draws: Pastes, target: torch.Tensor) -> torch.Tensor:
    """Return matrices (B, 3, 3) that bring the centres of source (B, 1, 4) to target (B, 2)."""
    center = (source[:, 0, :2] + source[:, 0, 2:]) / 2.0
    spatial = torch.eye(3).expand(len(source), 3, 3).clone()
    spatial[:, :2, :2] = draws.linear
    spatial[:, :2, 2] = target - (draws.linear @ center[:, :, None])[:, :, 0]
    return spatial


def _blend(
    batch: Batch,
    moved: Batch,
    draws: Pastes,
    source: torch.Tensor,
    spatial: torch.Tensor,
    is_pasted: torch.Tensor,
) -> torch.Tensor:
    """Lay the givers' ellipses over the moved pictures; same shape and type as those."""
    rows = is_pasted.nonzero().flatten()  # (P,)
    if len(rows) == 0:
        return moved.images
    height, width = batch.images.shape[1:3]
    device = batch.images.device
    edge = draws.edge[rows, None, None]  # (P, 1, 1)
    maps = _blend_maps(source[rows, 0], spatial[rows], edge, input_wh=(width, height))
    limit = ((1.0 + edge) / edge).expand(-1, 4, 1)
    numbers = torch.cat([maps, limit], dim=2).to(device, non_blocking=True)  # (P, 4, 4)
    limit = numbers[:, None, None, :1, 3]  # (P, 1, 1, 1)
    places = torch.stack([rows, draws.donor[rows]]).to(device, non_blocking=True)
    where = map_pixels(numbers[:, :, :3], input_wh=(width, height))  # (P, H, W, 4)
    radius = torch.hypot(where[..., 2:3], where[..., 3:4])  # in widths of the soft edge
    mask = (limit - radius).clamp_(0.0, 1.0)
    planes = batch.images[places[1]].permute(0, 3, 1, 2).float()
    pasted = grid_sample(planes, where[..., :2], align_corners=False).permute(0, 2, 3, 1)
    blended = moved.images[places[0]].float().lerp(pasted, mask)
    if not moved.images.is_floating_point():
        blended = blended.round_().to(moved.images.dtype)
    return moved.images.index_copy(0, places[0], blended)


def _blend_maps(
    source: torch.Tensor, spatial: torch.Tensor, edge: torch.Tensor, *, input_wh: tuple[int, int]
) -> torch.Tensor:
    """Return what to make of new pixel coordinates [x y 1], (P, 4, 3).

    Two rows are the old coordinates, from -1 to 1 over the picture; two are those from the centre
    of the ellipse source (P, 4), in its half axes (at least a pixel) times edge (P, 1, 1).
    """
    old = torch.linalg.inv(spatial)[:, :2]  # (P, 2, 3)
    center = ((source[:, :2] + source[:, 2:]) / 2.0)[:, :, None]
    half = ((source[:, 2:] - source[:, :2]) / 2.0).clamp_min(1.0)[:, :, None]
    middle = torch.tensor(input_wh)[:, None] / 2.0
    last = torch.tensor([0.0, 0.0, 1.0])
    return torch.cat([old / middle - last, (old - center * last) / (half * edge)], dim=1)


def _covered_frac(boxes: torch.Tensor, over: torch.Tensor) -> torch.Tensor:
    """Return the fraction of each of boxes (B, M, 4) that lies under over (B, 1, 4): (B, M)."""
    low = torch.maximum(boxes[..., :2], over[..., :2])
    high = torch.minimum(boxes[..., 2:], over[..., 2:])
    shared = (high - low).clamp_min(0.0).prod(dim=2)
    area = (boxes[..., 2:] - boxes[..., :2]).clamp_min(0.0).prod(dim=2)
    return shared / area.clamp_min(math.ulp(1.0))
