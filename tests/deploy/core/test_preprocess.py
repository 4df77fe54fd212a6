import cv2
import numpy as np
import pytest

from deploy.core.boxes import as_xyxy
from deploy.core.preprocess import (
    RESIZES,
    boxes_to_image,
    boxes_to_input,
    image_to_tensor,
    images_to_batch,
    place_image,
    resize_image,
)


def picture(height, width, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("image_wh", "resize", "size_wh", "corner_xy"),
    [
        ((1280, 720), "stretch", (320, 192), (0, 0)),
        ((1280, 720), "letterbox", (320, 180), (0, 6)),
        ((1280, 720), "letterbox_topleft", (320, 180), (0, 0)),
        ((100, 200), "letterbox", (96, 192), (112, 0)),
        ((10000, 1), "letterbox", (320, 1), (0, 95)),
        ((320, 192), "letterbox", (320, 192), (0, 0)),
    ],
)
def test_placement_table(image_wh, resize, size_wh, corner_xy):
    assert place_image(image_wh, (320, 192), resize) == (size_wh, corner_xy)


@pytest.mark.parametrize(
    ("image_wh", "resize", "message"),
    [
        ((4, 4), "crop", "known: stretch, letterbox, letterbox_topleft"),
        ((0, 4), "stretch", "1 x 1"),
    ],
)
def test_placement_refuses_what_it_does_not_know(image_wh, resize, message):
    with pytest.raises(ValueError, match=message):
        place_image(image_wh, (320, 192), resize)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("image_wh", [(1280, 720), (333, 777), (320, 192), (64, 48)])
def test_boxes_there_and_back_are_the_same(image_wh, resize):
    boxes = as_xyxy(np.random.RandomState(0).uniform(0, 700, (50, 4)))
    there = boxes_to_input(boxes, input_wh=(320, 192), image_wh=image_wh, resize=resize)
    back = boxes_to_image(there, input_wh=(320, 192), image_wh=image_wh, resize=resize)
    assert np.allclose(back, boxes, atol=0.02)
    assert back.dtype == np.float32


@pytest.mark.parametrize("resize", RESIZES)
def test_a_bright_rectangle_is_where_its_box_is_mapped(resize):
    image = np.zeros((360, 480, 3), np.uint8)
    image[90:270, 120:360] = 255
    tensor = image_to_tensor(image, input_wh=(320, 192), resize=resize)
    box = boxes_to_input(
        as_xyxy([[120, 90, 360, 270]]), input_wh=(320, 192), image_wh=(480, 360), resize=resize
    )[0]
    rows, columns = np.nonzero(tensor[0] > 0.5)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.allclose(seen, box, atol=1.0)


def test_tensor_is_rgb_planes_scaled():
    image = np.zeros((2, 3, 3), np.uint8)
    image[:, :] = [10, 20, 30]  # B, G, R
    tensor = image_to_tensor(image, input_wh=(3, 2))
    assert tensor.shape == (3, 2, 3)
    assert tensor.dtype == np.float32
    assert np.allclose(tensor[:, 0, 0], np.array([30, 20, 10]) / 255, atol=1e-7)


def test_offset_is_taken_off_before_scaling_in_network_order():
    image = np.zeros((2, 3, 3), np.uint8)
    image[:, :] = [10, 20, 30]
    options = {"input_wh": (3, 2), "scale": 0.5, "offset": (1.0, 2.0, 4.0)}
    rgb = image_to_tensor(image, **options)
    bgr = image_to_tensor(image, color="bgr", **options)
    assert rgb[:, 0, 0].tolist() == [14.5, 9.0, 3.0]
    assert bgr[:, 0, 0].tolist() == [4.5, 9.0, 13.0]


@pytest.mark.parametrize("resize", RESIZES)
def test_tensor_agrees_with_plain_numpy_to_6e_8(resize):
    image = picture(480, 500)
    tensor = image_to_tensor(image, input_wh=(96, 64), resize=resize)
    small = resize_image(image, input_wh=(96, 64), resize=resize)
    assert np.allclose(tensor, small[:, :, ::-1].transpose(2, 0, 1) / 255.0, atol=6e-8)


def test_stretch_is_opencv_bilinear():
    image = picture(480, 640)
    expected = cv2.resize(image, (96, 64), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resize_image(image, input_wh=(96, 64), resize="stretch"), expected)


def test_letterbox_leaves_black():
    tensor = image_to_tensor(
        np.full((100, 200, 3), 255, np.uint8),
        input_wh=(64, 64),
        resize="letterbox_topleft",
        offset=(127.5,) * 3,
        scale=1 / 127.5,
    )
    assert np.allclose(tensor[:, :32], 1.0)
    assert np.allclose(tensor[:, 32:], -1.0)


def test_a_kept_buffer_is_filled_and_returned():
    buffer = np.full((4, 3, 64, 96), 9.0, np.float32)
    images = [picture(100, 150, 1), picture(64, 96, 2)]
    batch = images_to_batch(images, input_wh=(96, 64), out=buffer)
    assert np.shares_memory(batch, buffer)
    assert np.array_equal(batch, images_to_batch(images, input_wh=(96, 64)))
    assert (buffer[2:] == 9.0).all()
    assert images_to_batch([], input_wh=(96, 64)).shape == (0, 3, 64, 96)


def test_the_picture_is_not_written_into():
    image = picture(64, 96)
    before = image.copy()
    image_to_tensor(image, input_wh=(96, 64), offset=(1.0, 2.0, 3.0))
    assert np.array_equal(image, before)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8)],
)
def test_other_pictures_are_refused(image):
    with pytest.raises(ValueError, match="expected \\(height, width, 3\\) uint8 BGR"):
        image_to_tensor(image, input_wh=(8, 8))


def test_an_unknown_color_is_refused():
    with pytest.raises(ValueError, match="color is 'gray'; known: rgb, bgr"):
        image_to_tensor(picture(4, 4), input_wh=(8, 8), color="gray")


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 130])
def test_strips_change_nothing(rows):
    image = np.random.RandomState(rows).randint(0, 256, (rows, 8, 3)).astype(np.uint8)
    offset = (1.0, 2.0, 3.0)
    tensor = image_to_tensor(image, input_wh=(8, rows), scale=0.5, offset=offset)
    planes = image[..., ::-1].transpose(2, 0, 1).astype(np.float32)
    expected = (planes - np.array(offset, np.float32)[:, None, None]) * np.float32(0.5)
    np.testing.assert_array_equal(tensor, expected)
