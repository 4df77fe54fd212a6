"""Frames of one video: hands and arms over the room, what is visible of each, and its labels."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from stages.datasets.render.arm import ArmPlan, Shoulder, draw_arm
from stages.datasets.render.camera import expose
from stages.datasets.render.config import RenderConfig
from stages.datasets.render.hand import Placement, draw_hand, place_hand
from stages.datasets.render.layer import (
    Layer,
    blur_motion,
    move_layer,
    overlap,
    paste_inplace,
    shade_inplace,
)
from stages.datasets.render.outline import trace_outline
from stages.datasets.render.scene import MARGIN, Held, Scene
from stages.datasets.render.script import HandScript, HandState, wrist_of
from stages.datasets.render.skeleton import pose_skeleton, rotation_matrix

MIN_VISIBLE = 0.4  # a hand that shows less is taken out of the frame, arm and all
MIN_VISIBLE_GESTURE = 0.72
MIN_HEIGHT_GESTURE = 0.09  # of the frame's height
_EXPOSURE = 0.35  # of the time between two frames
# Joints without which a gesture cannot be told: the tips of the fingers that make it.
_TELLING = {"thumbs_up": (3, 4), "stop": (8, 12, 16), "ok": (4, 8, 12), "two": (8, 12)}
_HOLDING = [4, 8, 12]  # the tips of the fingers that hold something


class Hand(NamedTuple):
    """A labelled hand: outline (K, 2) in pixels, gesture (None: unclear), visible share.

    joints: (21, 2) pixels, as skeleton.py orders them; hidden ones and those outside too.
    """

    field: str
    outline: np.ndarray
    gesture: str | None
    visible: float
    joints: np.ndarray


class Frame(NamedTuple):
    image: np.ndarray  # (H, W, 3) uint8 BGR
    hands: tuple[Hand, ...]


class _Actor(NamedTuple):
    """One hand in one frame, with its arm: layers back to front, the last is the hand."""

    script: HandScript
    state: HandState
    layers: tuple[Layer, ...]
    joints: np.ndarray  # (21, 2) picture pixels
    in_front: tuple[Layer, ...]  # what the hand holds, where it hides fingers


def render_frames(
    scene: Scene,
    rng: np.random.Generator,
    config: RenderConfig,
    indices: Iterable[int] | None = None,
) -> Iterator[Frame]:
    """Draw frames of the video's script in order: those at the indices, or all of them.

    rng drives the camera's unrest and noise alone.
    """
    phase = rng.uniform(0, 6.3, 4)
    for index in range(config.frames_per_video) if indices is None else indices:
        sway = np.sin(index * np.array([0.21, 0.13, 0.17, 0.09]) + phase)
        shift = (
            round(float(sway[0] + sway[1]) * 0.45 * MARGIN),
            round(float(sway[2] + sway[3]) * 0.3 * MARGIN),
        )
        yield _render_frame(scene, index, shift, rng, config)


def _render_frame(
    scene: Scene,
    index: int,
    shift: tuple[int, int],
    rng: np.random.Generator,
    config: RenderConfig,
) -> Frame:
    width, height = config.image_wh
    actors = [
        _stage_actor(scene, script, held, index, shift, config)
        for script, held in zip(scene.scripts, scene.held, strict=True)
    ]
    covers = [move_layer(cover, shift) for cover in scene.covers]
    actors, covers, owner = _resolve(actors, covers, (height, width), config)
    corner = (MARGIN - shift[1], MARGIN - shift[0])
    image = scene.room[corner[0] : corner[0] + height, corner[1] : corner[1] + width].copy()
    for actor in actors:
        drop = 0.10 * actor.state.scale
        shadow = (-scene.light.direction[0] * drop, -scene.light.direction[1] * drop * 0.6 + 3)
        shade_inplace(image, actor.layers[-1], shift=shadow, strength=0.42)
        for layer in (*actor.layers, *actor.in_front):
            paste_inplace(image, layer)
    for cover in covers:
        paste_inplace(image, cover)
    hands = [_label(actor, owner, rank + 1, config) for rank, actor in enumerate(actors)]
    return Frame(expose(image, scene.camera, rng), tuple(hands))


def _stage_actor(
    scene: Scene,
    script: HandScript,
    held: Held | None,
    index: int,
    shift: tuple[int, int],
    config: RenderConfig,
) -> _Actor:
    """Draw one hand, its arm and what it holds for one frame."""
    state = script.states[index]
    person = scene.me if script.is_mine else scene.you
    rotation = rotation_matrix(*state.turn)
    wrist = wrist_of(state, rotation)
    skeleton = pose_skeleton(script.shape, state.angles)
    hand = place_hand(
        script.shape, skeleton, Placement(wrist, state.scale, rotation, script.is_left)
    )
    breadth = float(np.hypot(hand.frame[0, 0], hand.frame[1, 0]))
    wrist_radius = (0.105 + 0.032 * breadth) * state.scale
    drawn = draw_hand(hand, person.skin, scene.light, wrist_radius=wrist_radius)
    drawn = blur_motion(drawn, _velocity(script, index))
    arm = draw_arm(
        hand.joints[0],
        _arm_plan(script, state, wrist_radius, shift, scene, config),
        person,
        scene.light,
        frame_wh=(config.image_wh[0], config.image_wh[1]),
    )
    joints = hand.joints[:, :2]
    behind, in_front = _hold(held, joints)
    return _Actor(script, state, (*arm, *behind, drawn), joints, in_front)


def _hold(held: Held | None, joints: np.ndarray) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """Move an object to the fingertips; layers behind the hand and in front of it."""
    if held is None:
        return (), ()
    x, y = joints[_HOLDING].mean(axis=0).round().astype(int).tolist()
    layer = move_layer(held.layer, (x, y))
    return ((), (layer,)) if held.is_in_front else ((layer,), ())


def _velocity(script: HandScript, index: int) -> tuple[float, float]:
    before = script.states[max(index - 1, 0)].middle
    after = script.states[min(index + 1, len(script.states) - 1)].middle
    factor = _EXPOSURE / 2
    return (after[0] - before[0]) * factor, (after[1] - before[1]) * factor


def _arm_plan(
    script: HandScript,
    state: HandState,
    wrist_radius: float,
    shift: tuple[int, int],
    scene: Scene,
    config: RenderConfig,
) -> ArmPlan:
    """To the partner's shoulder where there is one; other arms from the sides, mine from below."""
    width, height = config.image_wh
    outward = -1.0 if script.is_left == script.is_mine else 1.0
    x, y = state.middle
    if script.arm_deg is not None:
        turn = np.radians(script.arm_deg)
        target = (x + width * float(np.sin(turn)), y + width * float(np.cos(turn)))
        shoulder = None
    elif script.is_mine:
        target, shoulder = (x + outward * 0.25 * width, y + 0.9 * height), None
    elif scene.partner is None:
        outside = width * (0.5 + 0.62 * outward)
        target = (outside, y + 0.5 * height)
        shoulder = Shoulder(outside, y + 0.05 * height, 0.28 * state.scale)
    else:
        face = scene.partner.face_height
        centre = (scene.partner.centre[0] + shift[0], scene.partner.centre[1] + shift[1])
        target = (centre[0] + outward * 1.1 * face, centre[1] + 2.4 * face)
        shoulder = Shoulder(
            centre[0] + outward * 0.78 * face, centre[1] + 1.06 * face, 0.27 * face
        )
    plan = ArmPlan(target, shoulder, state.scale, state.turn[2], wrist_radius)
    if config.pose_variety <= 0.0:
        return plan
    # A hand that points to the viewer seems to bend further.
    shortened = max(abs(float(np.cos(np.radians(state.turn[1])))), 0.4)
    return plan._replace(max_bend_deg=plan.max_bend_deg / shortened)


def _resolve(
    actors: list[_Actor], covers: list[Layer], frame_hw: tuple[int, int], config: RenderConfig
) -> tuple[list[_Actor], list[Layer], np.ndarray]:
    """Take out hands that show too little, until every hand in the frame can be labelled.

    Should none be left, the anchor comes back alone, moved into the frame.
    """
    while True:
        owner = _owners(actors, covers, frame_hw)
        poor = [
            rank
            for rank, actor in enumerate(actors)
            if not _is_labelled(actor, owner, rank + 1, config)
        ]
        if not poor:
            return actors, covers, owner
        anchor = actors[-1]
        actors = [actor for rank, actor in enumerate(actors) if rank != poor[0]]
        if not actors:
            actors, covers = [_centre(anchor, frame_hw)], []
            return actors, covers, _owners(actors, covers, frame_hw)


def _centre(actor: _Actor, frame_hw: tuple[int, int]) -> _Actor:
    layer = actor.layers[-1]
    middle = [layer.origin[axis] + layer.alpha.shape[1 - axis] // 2 for axis in (0, 1)]
    shift = (frame_hw[1] // 2 - middle[0], frame_hw[0] // 2 - middle[1])
    layers = tuple(move_layer(layer, shift) for layer in actor.layers)
    return actor._replace(layers=layers, joints=actor.joints + np.array(shift), in_front=())


def _owners(actors: list[_Actor], covers: list[Layer], frame_hw: tuple[int, int]) -> np.ndarray:
    """Which hand each pixel shows: (H, W) uint8, 0 none, 1.. the actors in order."""
    owner = np.zeros(frame_hw, np.uint8)
    for rank, actor in enumerate(actors):
        for layer in actor.layers:
            _claim_inplace(owner, layer, rank + 1)
        for layer in actor.in_front:
            _claim_inplace(owner, layer, 0)
    for cover in covers:
        _claim_inplace(owner, cover, 0)
    return owner


def _claim_inplace(owner: np.ndarray, layer: Layer, number: int) -> None:
    where = overlap(layer.origin, layer.alpha.shape, owner.shape)
    if where is None:
        return
    region = owner[where.frame]
    region[layer.alpha[where.patch] > 0.5] = 0
    if layer.mask is not None:
        region[layer.mask[where.patch] > 0.5] = number


def _crop(actor: _Actor, owner: np.ndarray, number: int) -> tuple[np.ndarray, tuple[int, int]]:
    """The hand's visible pixels (h, w) uint8 and the crop's corner in the frame."""
    layer = actor.layers[-1]
    where = overlap(layer.origin, layer.alpha.shape, owner.shape)
    if where is None:
        return np.zeros((0, 0), np.uint8), (0, 0)
    mask = (owner[where.frame] == number).astype(np.uint8)
    return mask, (where.frame[1].start, where.frame[0].start)


def _visible(actor: _Actor, mask: np.ndarray) -> float:
    whole = actor.layers[-1].mask
    total = 0 if whole is None else int((whole > 0.5).sum())
    return float(mask.sum()) / max(total, 1)


def _is_labelled(actor: _Actor, owner: np.ndarray, number: int, config: RenderConfig) -> bool:
    mask, _ = _crop(actor, owner, number)
    if _visible(actor, mask) < MIN_VISIBLE:
        return False
    rows = np.flatnonzero(mask.any(axis=1))
    share = (rows[-1] + 1 - rows[0]) / config.image_wh[1]
    return bool(config.min_hand_height * 1.02 <= share <= config.max_hand_height * 0.99)


def _label(actor: _Actor, owner: np.ndarray, number: int, config: RenderConfig) -> Hand:
    mask, corner = _crop(actor, owner, number)
    visible = _visible(actor, mask)
    outline = trace_outline(mask, corner)
    share = float(np.ptp(outline[:, 1])) / config.image_wh[1]
    gesture = actor.state.label
    if visible < MIN_VISIBLE_GESTURE or share < MIN_HEIGHT_GESTURE:
        gesture = None
    if gesture is not None and not _shows(actor, owner, number, _TELLING.get(gesture, ())):
        gesture = None
    return Hand(actor.script.field, outline, gesture, visible, actor.joints)


def _shows(actor: _Actor, owner: np.ndarray, number: int, joints: tuple[int, ...]) -> bool:
    """Whether the hand's own pixels are seen at every one of these joints."""
    height, width = owner.shape
    for x, y in np.floor(actor.joints[list(joints)]).astype(int):
        if not (0 <= x < width and 0 <= y < height and owner[y, x] == number):
            return False
    return True
