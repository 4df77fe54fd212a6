"""Settings of all tests: property tests have no deadline, since machines are loaded and noisy."""

import contextlib

# deploy's tests run on Python 3.6 with NumPy, OpenCV and pytest alone.
with contextlib.suppress(ImportError):
    from hypothesis import settings

    settings.register_profile("project", deadline=None, derandomize=True)
    settings.load_profile("project")
