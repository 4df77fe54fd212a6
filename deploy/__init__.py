"""The part that runs on the device: stands alone on Python >= 3.6 with numpy and OpenCV."""
