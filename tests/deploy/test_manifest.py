"""The manifest finds a file that is missing or differs."""

import hashlib
import json

import pytest

from deploy.core.errors import DeployError
from deploy.manifest import check_manifest

FILES = {"deploy/run.py": b"code", "models/detector/detector.onnx": b"network"}


@pytest.fixture
def bundle(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    (tmp_path / "manifest.json").write_text(json.dumps({"schema": 1, "files": hashes}))
    return tmp_path


def test_whole_bundle_is_counted_and_other_files_do_not_matter(bundle):
    (bundle / "out.mp4").write_bytes(b"x")
    assert check_manifest(bundle) == 2


@pytest.mark.parametrize("name", sorted(FILES))
def test_changed_file_is_named(bundle, name):
    (bundle / name).write_bytes(b"other")
    with pytest.raises(DeployError, match=name):
        check_manifest(bundle)


@pytest.mark.parametrize("name", sorted(FILES))
def test_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(DeployError, match=name):
        check_manifest(bundle)


def test_folder_that_is_no_bundle_is_one_line(tmp_path):
    with pytest.raises(DeployError, match="expected an unpacked bundle"):
        check_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DeployError, match="is not JSON"):
        check_manifest(tmp_path)
