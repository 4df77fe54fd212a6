"""The machine's description: plain JSON, stable, and its fingerprint changes with it."""

import json

from deploy import machine
from deploy.machine import available_cpus, describe_machine, fingerprint, runtime_versions


def test_description_is_json_and_stable():
    first = describe_machine()
    assert json.loads(json.dumps(first)) == first
    assert describe_machine() == first
    assert first["cpus"] >= 1


def test_fingerprint_is_equal_for_equal_and_differs_for_other_machines():
    base = describe_machine()
    assert fingerprint(base) == fingerprint(dict(base))
    assert len(fingerprint(base)) == 16
    for change in ({"cpu": "other"}, {"cpus": 99}, {"runtimes": {"openvino": "1.0"}}):
        assert fingerprint(dict(base, **change)) != fingerprint(base)


def test_versions_are_read_off_metadata_folders_and_the_first_on_the_path_wins(
    tmp_path, monkeypatch
):
    for place, name in [
        ("first", "onnxruntime-1.9.0.dist-info"),
        ("second", "onnxruntime-1.32.0.dist-info"),
        ("second", "tensorrt-8.2.1.8-py3.6.egg-info"),
        ("second", "numpy-1.19.5.dist-info"),
    ]:
        (tmp_path / place / name).mkdir(parents=True)
    monkeypatch.setattr(machine.sys, "path", [str(tmp_path / "first"), str(tmp_path / "second")])
    assert runtime_versions() == {"onnxruntime": "1.9.0", "tensorrt": "8.2.1.8"}


def test_quota_of_the_control_group_bounds_the_processors(monkeypatch):
    monkeypatch.setattr(machine, "_read", lambda path: "max 100000")
    unlimited = available_cpus()
    monkeypatch.setattr(machine, "_read", lambda path: "50000 100000")
    assert available_cpus() == 1
    monkeypatch.setattr(machine, "_read", lambda path: "")
    assert available_cpus() == unlimited
