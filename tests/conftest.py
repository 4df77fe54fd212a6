"""Settings of all tests: property tests have no deadline, since machines are loaded and noisy."""

import contextlib

# deploy's tests run on Python 3.6 with NumPy, OpenCV and pytest alone.
with contextlib.suppress(ImportError):
    from hypothesis import settings

    settings.register_profile("project", deadline=None, derandomize=True)
    settings.load_profile("project")


def pytest_collection_modifyitems(items):
    """Start with the end-to-end tests: one worker has them all, and the others fill its time."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/test_pipeline.py"))
