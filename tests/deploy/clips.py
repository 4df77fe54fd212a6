"""Small clips and image folders, written with OpenCV."""

import cv2

from tests.deploy.tiny_models import draw_frame


def write_clip(path, frames, *, fps=10.0, fourcc="mp4v"):
    """Write frames (lists of hands, see draw_frame) as a video; return its path as text."""
    images = [draw_frame(hands) for hands in frames]
    height, width = images[0].shape[:2]
    code = cv2.VideoWriter_fourcc(*fourcc)
    writer = cv2.VideoWriter(str(path), code, fps, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(image)
    writer.release()
    return str(path)


def write_folder(folder, frames):
    """Write frames as numbered PNG files, without loss; return the folder as text."""
    folder.mkdir()
    for index, hands in enumerate(frames):
        assert cv2.imwrite(str(folder / f"{index:03d}.png"), draw_frame(hands))
    return str(folder)


def count_frames(path):
    """Number of frames that can be decoded from a video, and their size."""
    capture = cv2.VideoCapture(str(path))
    count, image_wh = 0, None
    while True:
        is_read, image = capture.read()
        if not is_read:
            capture.release()
            return count, image_wh
        count, image_wh = count + 1, (image.shape[1], image.shape[0])
