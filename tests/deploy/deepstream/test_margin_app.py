"""The margin application's pipeline as text and in Service Maker's calls, and what it refuses.

`Recorder` stands in for pyservicemaker's Pipeline and checks that links name elements it has.
"""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.core.errors import DeployError
from deploy.deepstream import margin_app
from deploy.deepstream.elements import add_elements, launch_text, make_chains
from deploy.deepstream.versions import RELEASES, find_release


def setting(**changes):
    values = {"version": "7.1", "source": "csi://1", "uri": "csi://1", "is_live": True}
    values.update({"frame_wh": [1280, 720], "sinks": ["window", "out.mp4"]}, **changes)
    return values


def chains(version="7.1", **changes):
    return make_chains(setting(**changes), Path("folder"), find_release(version))


class Recorder:
    def __init__(self):
        self.names, self.links = [], []

    def add(self, factory, name, properties):
        assert name not in self.names
        self.names.append(name)

    def link(self, *names):
        if isinstance(names[0], tuple):
            names = names[0]
        assert set(names) <= set(self.names)
        self.links += zip(names, names[1:])


@pytest.mark.parametrize("version", [release.version for release in RELEASES])
@pytest.mark.parametrize("source", ["csi://0", "/dev/video1", "rtsp://cam/1"])
def test_both_forms_lead_from_the_source_to_every_sink(version, source):
    made = chains(version, source=source, uri=source, sinks=["window", "fake", "a.mkv"])
    recorder = Recorder()
    add_elements(recorder, made)
    text = launch_text(made)
    assert all(f"name={name}" in text for name in recorder.names)
    reached = {"source"}
    for _ in recorder.names:
        reached |= {end for start, end in recorder.links if start in reached}
    assert reached == set(recorder.names)
    assert text.index("name=detector") < text.index("name=gesture") < text.index("name=draw")


def test_the_classifier_gives_tensors_and_paths_are_the_folders():
    text = launch_text(chains())
    assert 'config-file-path="folder/config_infer_gesture_tensor.txt"' in text
    assert 'sensor-id="1"' in text


def test_sinks_that_only_deepstream_app_has_are_named():
    with pytest.raises(DeployError, match=r"rtsp://:8554.*NAME\.mp4"):
        chains(sinks=["rtsp://:8554"])


@pytest.mark.parametrize(
    ("version", "asked", "expected"),
    [
        ("5.0", None, "pyds"),
        ("7.1", None, "pyds"),
        ("7.1", "pyservicemaker", "pyservicemaker"),
        ("8.0", None, "pyservicemaker"),
    ],
)
def test_bindings_by_table(version, asked, expected):
    assert margin_app.choose_bindings(find_release(version), asked) == expected


@pytest.mark.parametrize(("version", "asked"), [("7.0", "pyservicemaker"), ("8.0", "pyds")])
def test_bindings_that_a_release_lacks_are_named(version, asked):
    with pytest.raises(DeployError, match=f"{version}.*{asked}.*known"):
        margin_app.choose_bindings(find_release(version), asked)


def test_folder_that_was_not_rendered_is_one_line(tmp_path, capsys):
    assert margin_app.main(["--folder", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "margin.json" in line
    assert "deploy.render" in line


class Pipeline:
    def __init__(self):
        self.stopped = threading.Event()

    def stop(self):
        self.stopped.set()


def test_an_error_is_kept_stops_the_pipeline_and_later_frames_are_left_out():
    pipeline, errors, seen = Pipeline(), [], []

    def act(batch):
        seen.append(batch)
        raise ValueError("wrong")

    maker = SimpleNamespace(BatchMetadataOperator=object)
    operator = margin_app._operator(maker, act, pipeline, errors)
    operator.handle_metadata(1)
    operator.handle_metadata(2)
    assert pipeline.stopped.wait(5)
    assert seen == [1]
    assert [str(error) for error in errors] == ["wrong"]
