"""The scene of a video: room, light, people, objects; everything that is drawn once."""

from typing import NamedTuple

import numpy as np

from stages.datasets.render.appearance import Cloth, random_cloth, sample_unit
from stages.datasets.render.background import draw_room
from stages.datasets.render.camera import Camera, random_camera
from stages.datasets.render.clutter import draw_prop
from stages.datasets.render.config import RenderConfig
from stages.datasets.render.distractors import (
    draw_blob,
    draw_elbow,
    draw_head,
    draw_portrait,
    draw_torso,
)
from stages.datasets.render.layer import Layer, move_layer, paste_inplace, shade_inplace
from stages.datasets.render.script import FIELDS, HandScript, Region, write_script
from stages.datasets.render.skin import Light, Skin, random_skin
from stages.datasets.render.table_work import work_region, write_work

MARGIN = 24  # pixels by which the room is larger than the frame on every side
_WORK_PARTNER_FRAC = 0.9
_HELD_FRAC = 0.55  # of the hands at work hold something


class Person(NamedTuple):
    skin: Skin
    skin_depth: float
    sleeve: Cloth
    cuff: float  # where the sleeve ends, 0 = wrist, 1 = elbow; above 1 = bare forearm
    short_sleeve: float = 0.0  # where it begins then, 0 = elbow, 1 = shoulder


class Partner(NamedTuple):
    """Who sits opposite, painted into the room: the head's place in the frame and its height."""

    centre: tuple[float, float]
    face_height: float


class Held(NamedTuple):
    """An object in a hand, centred on (0, 0), in front of the fingers or behind them."""

    layer: Layer
    is_in_front: bool


class Scene(NamedTuple):
    split: str
    place: str
    room: np.ndarray  # (H + 2 * MARGIN, W + 2 * MARGIN, 3) uint8
    light: Light
    camera: Camera
    me: Person
    you: Person
    partner: Partner | None
    scripts: tuple[HandScript, ...]  # back to front; the last is the anchor
    covers: tuple[Layer, ...]  # objects in front of the hands
    num_distractors: int
    held: tuple[Held | None, ...]  # by script


def random_light(rng: np.random.Generator) -> Light:
    """Draw a light from above, sideways to frontal, of daylight to lamp colour."""
    direction = np.array(
        [rng.uniform(-0.9, 0.9), rng.uniform(-1.0, -0.15), rng.uniform(0.35, 1.0)]
    )
    warm = rng.normal(0.0, 0.10)
    tint = np.array([1.0 - warm, 1.0 + rng.normal(0.0, 0.02), 1.0 + warm])
    power = rng.uniform(0.55, 0.95)
    ambient = np.array([1.0 + 0.5 * warm, 1.0, 1.0 - 0.5 * warm]) * rng.uniform(0.42, 0.6)
    unit = direction / np.linalg.norm(direction)
    return Light(
        unit.astype(np.float32), (tint * power).astype(np.float32), ambient.astype(np.float32)
    )


def random_person(rng: np.random.Generator, split: str, config: RenderConfig) -> Person:
    depth = sample_unit(rng, split)
    bare = rng.uniform() < config.bare_arm_frac
    cuff = 2.0 if bare else float(rng.uniform(0.08, 0.75))
    return Person(random_skin(rng, depth), depth, random_cloth(rng, split), cuff)


def _roll_up(rng: np.random.Generator, person: Person) -> Person:
    """Give a person with bare forearms a short sleeve that ends above the elbow."""
    bare = float(rng.uniform(0.2, 0.8))
    return person._replace(short_sleeve=bare) if person.cuff > 1.0 else person


def build_scene(rng: np.random.Generator, split: str, config: RenderConfig) -> Scene:
    """Draw up one video: every choice that its frames share."""
    width, height = config.image_wh
    light = random_light(rng)
    me, you = random_person(rng, split, config), random_person(rng, split, config)
    # Without such videos no number is drawn for them, so that the others stay as they are.
    is_work = config.table_work_frac > 0.0 and rng.uniform() < config.table_work_frac
    seated = rng.uniform() < (_WORK_PARTNER_FRAC if is_work else config.person_frac)
    horizon = float(rng.uniform(0.5, 0.68) if seated else rng.uniform(0.2, 0.6))
    if is_work:
        horizon = float(rng.uniform(0.2, 0.55))
    canvas_hw = (height + 2 * MARGIN, width + 2 * MARGIN)
    room = draw_room(rng, canvas_hw, split, horizon=horizon)
    gain = np.clip(light.colour * 0.85 + light.ambient, 0.5, 1.25)
    picture = np.clip(room.picture * gain, 0, 255).astype(np.uint8)
    partner = _seat_inplace(rng, picture, you, light, horizon) if seated else None
    count = _furnish_inplace(rng, picture, split, light, config, horizon)
    scripts = _cast_work(rng, partner, horizon, config) if is_work else _cast(rng, partner, config)
    covers = _covers(rng, split, scripts, config, light)
    held = tuple(_hold_something(rng, split, script, light) for script in scripts if is_work)
    if is_work:
        me, you = _roll_up(rng, me), _roll_up(rng, you)
    camera = random_camera(rng, (width, height), noise=config.noise, quality=config.jpeg_quality)
    return Scene(
        split,
        room.place,
        picture,
        light,
        camera,
        me,
        you,
        partner,
        scripts,
        covers,
        count + seated,
        held or (None,) * len(scripts),
    )


def _seat_inplace(
    rng: np.random.Generator, picture: np.ndarray, you: Person, light: Light, horizon: float
) -> Partner:
    """Paint the partner's head and trunk into the room, behind the table."""
    height, width = picture.shape[:2]
    edge = int(height * horizon)
    table = picture[edge:].copy()
    face = float(rng.uniform(0.21, 0.31)) * height
    centre = (float(rng.uniform(0.3, 0.7)) * width, edge - face * float(rng.uniform(1.25, 1.7)))
    head = draw_head(rng, you.skin, light, face)
    torso = draw_torso(centre, face, you.skin, you.sleeve, light, (width, height))
    for layer in (*torso, move_layer(head, (round(centre[0]), round(centre[1])))):
        shade_inplace(picture, layer, shift=_shadow_shift(light, 12.0), strength=0.3)
        paste_inplace(picture, layer)
    picture[edge:] = table
    return Partner((centre[0] - MARGIN, centre[1] - MARGIN), face)


def _furnish_inplace(
    rng: np.random.Generator,
    picture: np.ndarray,
    split: str,
    light: Light,
    config: RenderConfig,
    horizon: float,
) -> int:
    """Paint objects and skin-coloured distractors into the room; returns how many distractors."""
    height, width = picture.shape[:2]
    for _ in range(int(rng.integers(config.clutter // 3, config.clutter + 1))):
        on_table = rng.uniform() < 0.75
        y = float(rng.uniform(horizon, 1.0) if on_table else rng.uniform(0.0, horizon * 0.8))
        kind = None if on_table else ("paper", "book", "plant")[int(rng.integers(3))]
        prop = draw_prop(rng, split, float(rng.uniform(0.12, 0.34)) * height, kind)
        prop = move_layer(prop, (int(rng.uniform(0, width)), int(y * height)))
        _stand_inplace(picture, [_lit(prop, light)], light)
    low = min(config.distractors, 1)
    count = int(rng.integers(low, config.distractors + 1))
    for _ in range(count):
        _stand_inplace(picture, _distractor(rng, split, light, (width, height)), light)
    return count


def _stand_inplace(picture: np.ndarray, layers: list[Layer], light: Light) -> None:
    for layer in layers:
        shade_inplace(picture, layer, shift=_shadow_shift(light, 9.0), strength=0.42)
        paste_inplace(picture, layer)


def _distractor(
    rng: np.random.Generator, split: str, light: Light, frame_wh: tuple[int, int]
) -> list[Layer]:
    width, height = frame_wh
    size = float(rng.uniform(0.2, 0.38)) * height
    skin = random_skin(rng, sample_unit(rng, split))
    kind = rng.uniform()
    if kind < 0.45:
        return draw_elbow(rng, skin, light, frame_wh, size)
    at = (float(rng.uniform(0.05, 0.95)) * width, float(rng.uniform(0.1, 0.9)) * height)
    if kind < 0.9:
        portrait = draw_portrait(rng, skin, random_cloth(rng, split), light, size)
        return [move_layer(portrait, (int(at[0]), int(at[1] * 0.8)))]
    return draw_blob(rng, split, at, light, frame_wh, size)


def _cast(
    rng: np.random.Generator, partner: Partner | None, config: RenderConfig
) -> tuple[HandScript, ...]:
    """Choose 1 to 4 hands and write their scripts, others' hands first (they are behind)."""
    count = int(rng.choice([1, 2, 3, 4], p=[0.2, 0.4, 0.28, 0.12]))
    chosen = sorted(rng.permutation(len(FIELDS))[:count].tolist(), reverse=True)
    return tuple(
        write_script(
            rng,
            FIELDS[field],
            _region(rng, FIELDS[field], partner, config),
            config,
            is_anchor=rank == count - 1,
        )
        for rank, field in enumerate(chosen)
    )


def _cast_work(
    rng: np.random.Generator, partner: Partner | None, horizon: float, config: RenderConfig
) -> tuple[HandScript, ...]:
    """Write the scripts of the people at work: the partner's hands, then mine in front of them."""
    scripts: list[HandScript] = []
    face = partner.face_height / config.image_wh[1] if partner else 0.0
    if partner:
        region = work_region("your", horizon=horizon, face=face)
        middle = partner.centre[0] / config.image_wh[0]
        x = (max(middle - 0.18, 0.12), min(middle + 0.18, 0.88))
        is_pair = rng.uniform() < 0.9
        scripts += write_work(rng, "your", region._replace(x=x), config, is_pair=is_pair)
    if not partner or rng.uniform() < 0.55:
        region = work_region("my", horizon=horizon, face=face)
        scripts += write_work(rng, "my", region, config, is_pair=rng.uniform() < 0.5)
    return tuple(scripts)


def _hold_something(
    rng: np.random.Generator, split: str, script: HandScript, light: Light
) -> Held | None:
    """Put a playing card or another small object into a hand, or nothing."""
    if rng.uniform() >= _HELD_FRAC:
        return None
    size = script.states[0].scale * float(rng.uniform(0.3, 0.75))
    kind = "card" if rng.uniform() < 0.4 else None
    return Held(_lit(draw_prop(rng, split, size, kind), light), rng.uniform() < 0.4)


def _region(
    rng: np.random.Generator, field: str, partner: Partner | None, config: RenderConfig
) -> Region:
    """My hands come from below, the partner's stay near the partner, others' near the sides."""
    on_left = field.endswith("left") == field.startswith("my")
    if field.startswith("my"):
        return Region((0.12, 0.55) if on_left else (0.45, 0.88), (0.42, 0.84), (0.22, 0.44))
    if partner is None:
        small = rng.uniform() < 0.12
        length = (0.09, 0.16) if small else (0.19, 0.36)
        return Region((0.08, 0.36) if on_left else (0.64, 0.92), (0.18, 0.66), length)
    width, height = config.image_wh
    face, side = partner.face_height, -1.0 if on_left else 1.0
    near, far = sorted((partner.centre[0] + side * reach * face) / width for reach in (0.2, 1.5))
    middle = partner.centre[1] / height
    x = (min(max(near, 0.06), 0.8), max(min(far, 0.94), 0.2))
    low = middle + 0.4 * face / height  # at a table hands are seldom in front of the face
    y = (max(low, 0.15), min(middle + 2.0 * face / height, 0.8))
    return Region(x, y, (0.75 * face / height, 0.98 * face / height))


def _covers(
    rng: np.random.Generator,
    split: str,
    scripts: tuple[HandScript, ...],
    config: RenderConfig,
    light: Light,
) -> tuple[Layer, ...]:
    """Objects standing in front of where hands come by, so that they hide a part of them."""
    covers = []
    for script in scripts:
        for start in range(0, config.frames_per_video, 15):
            if rng.uniform() >= config.cover_frac:
                continue
            frame = min(start + int(rng.integers(15)), config.frames_per_video - 1)
            state = script.states[frame]
            size = state.scale * float(rng.uniform(0.42, 0.82))
            turn = rng.uniform(0.0, 2 * np.pi)
            away = state.scale * float(rng.uniform(0.38, 0.6))
            x = state.middle[0] + away * float(np.cos(turn))
            y = state.middle[1] + away * abs(float(np.sin(turn)))
            prop = _lit(draw_prop(rng, split, size), light)
            covers.append(move_layer(prop, (round(x), round(y))))
    return tuple(covers)


def _lit(layer: Layer, light: Light) -> Layer:
    gain = np.clip(light.colour * 0.8 + light.ambient, 0.5, 1.3)
    return layer._replace(colour=np.clip(layer.colour * gain, 0, 255).astype(np.float32))


def _shadow_shift(light: Light, reach: float) -> tuple[float, float]:
    return -float(light.direction[0]) * reach, -float(light.direction[1]) * reach * 0.6 + 3.0
