"""The kernel against the CPU path, on the CPU: the same source compiled by g++.

Tolerance: one level of 255 at p99. OpenCV weighs in steps of 1/2048 and rounds in between.
"""

import numpy as np
import pytest

from deploy.core.preprocess import Preprocess, image_to_tensor, images_to_batch
from deploy.core.roi import EDGE_TOLERANCE, crop_regions
from deploy.tensorrt_kernel import BLOCK, FARTHEST, kernel_arguments, region_rectangles
from tests.deploy.host_kernel import compile_for_host

LEVEL = 1.001 / 255


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
    return compile_for_host(tmp_path_factory.mktemp("kernel"))


def picture(width, height, seed=0):
    import cv2

    coarse = np.random.RandomState(seed).randint(0, 256, (9, 16, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def run_kernel(launch, image, rectangles, input_wh, preprocess, *, is_crop):
    rectangles = np.ascontiguousarray(rectangles, np.int32)
    out = np.full((len(rectangles), 3, input_wh[1], input_wh[0]), np.nan, np.float32)
    grid = (-(-input_wh[0] // BLOCK[0]), -(-input_wh[1] // BLOCK[1]), len(rectangles))
    arguments = kernel_arguments(
        frame=image.ctypes.data,
        frame_wh=(image.shape[1], image.shape[0]),
        regions=rectangles.ctypes.data,
        out=out.ctypes.data,
        input_wh=input_wh,
        preprocess=preprocess,
        is_crop=is_crop,
    )
    launch(grid, BLOCK, *arguments)
    return out


def differences(seen, expected):
    apart = np.abs(seen - expected)
    return float(np.percentile(apart, 99)), float(apart.max())


@pytest.mark.parametrize("frame_wh", [(1280, 720), (640, 480), (333, 777), (960, 544), (1, 1)])
@pytest.mark.parametrize("resize", ["stretch", "letterbox", "letterbox_topleft"])
def test_whole_frames_are_as_on_the_cpu(launch, frame_wh, resize):
    image, preprocess = picture(*frame_wh), Preprocess(resize=resize)
    whole = [[0, 0, image.shape[1], image.shape[0]]]
    seen = run_kernel(launch, image, whole, (320, 192), preprocess, is_crop=False)
    expected = image_to_tensor(image, input_wh=(320, 192), **preprocess._asdict())
    p99, most = differences(seen[0], expected)
    assert p99 <= LEVEL
    assert most <= 2 * LEVEL


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_scale_offset_and_channel_order_are_the_models(launch, color):
    preprocess = Preprocess(color=color, scale=1 / 256, offset=(10.0, 20.0, 128.0))
    image = picture(640, 480)
    whole = [[0, 0, 640, 480]]
    seen = run_kernel(launch, image, whole, (160, 160), preprocess, is_crop=False)
    expected = image_to_tensor(image, input_wh=(160, 160), **preprocess._asdict())
    assert differences(seen[0], expected)[0] <= LEVEL


def test_all_regions_of_a_frame_are_as_on_the_cpu(launch):
    image = picture(1280, 720, seed=1)
    regions = np.array(
        [
            [100.2, 50.7, 400.1, 350.9],
            [-80, -60, 200, 220],  # over the corner: black outside
            [1200, 600, 1400.5, 800.5],
            [0, 0, 1280, 720],
            [300, 300, 301, 301],  # one pixel
            [40, 40, 40, 90],  # empty
            [2000, 2000, 2100, 2100],  # outside
            [np.nan, 0, 10, 10],
            [100.0004, 100.0004, 200.0004, 200.0004],  # on a pixel's edge but for rounding
        ],
        np.float32,
    )
    preprocess = Preprocess()
    seen = run_kernel(
        launch, image, region_rectangles(regions), (160, 160), preprocess, is_crop=True
    )
    crops = crop_regions(image, regions, size_wh=(160, 160))
    expected = images_to_batch(list(crops), input_wh=(160, 160), **preprocess._asdict())
    for index in range(len(regions)):
        assert differences(seen[index], expected[index])[0] <= LEVEL, regions[index]


def test_noise_differs_by_a_level_at_most(launch):
    image = np.random.RandomState(0).randint(0, 256, (720, 1280, 3)).astype(np.uint8)
    seen = run_kernel(launch, image, [[0, 0, 1280, 720]], (960, 544), Preprocess(), is_crop=False)
    expected = image_to_tensor(image, input_wh=(960, 544))
    assert differences(seen[0], expected)[0] <= LEVEL


def test_rectangles_of_no_regions_are_none():
    assert region_rectangles(np.zeros((0, 4), np.float32)) == []


def rectangles_by_arrays(regions):
    """What region_rectangles returns, by NumPy."""
    edges = np.clip(regions.astype(np.float64), -FARTHEST, FARTHEST)
    low, high = np.floor(edges[:, :2] + EDGE_TOLERANCE), np.ceil(edges[:, 2:] - EDGE_TOLERANCE)
    rows = np.concatenate([low, np.maximum(high - low, 0)], axis=1)
    rows[~np.isfinite(regions).all(axis=1)] = 0
    return [tuple(row) for row in rows.astype(int).tolist()]


@pytest.mark.parametrize("seed", range(3))
def test_rectangles_are_those_of_the_arrays(seed):
    generator = np.random.RandomState(seed)
    regions = generator.uniform(-300, 3000, (400, 4))
    regions[:100] = np.round(regions[:100]) + generator.uniform(-2, 2, (100, 4)) * EDGE_TOLERANCE
    regions[100:200] *= 10 ** generator.uniform(0, 6, (100, 1))
    regions[200:300, 2:] = regions[200:300, :2] + generator.uniform(0, 400, (100, 2))
    strange = [np.nan, np.inf, -np.inf, FARTHEST, -FARTHEST, 3e38, -3e38, 0.0, -0.0]
    regions[300:350, 2] = generator.choice(strange, 50)
    regions[325:375, 1] = generator.choice(strange, 50)
    regions = regions.astype(np.float32)
    with np.errstate(invalid="ignore"):
        expected = rectangles_by_arrays(regions)
    assert region_rectangles(regions) == expected
    assert all(type(edge) is int for row in region_rectangles(regions) for edge in row)
