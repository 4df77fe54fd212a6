"""Networks whose runs are recorded and replayed, in the recorded TensorRT and CUDA."""

import logging

import numpy as np
import pytest

from deploy import engine_tensorrt
from deploy.build import main as build
from deploy.core.model_json import read_model_json
from deploy.cuda_graph import GraphDriver
from deploy.tensorrt_graphs import PLAIN_RUNS
from deploy.tensorrt_network import NUM_SLOTS, TensorRtNetwork
from deploy.tensorrt_record import ENGINE_NAME, engine_folder
from tests.deploy import tiny_models
from tests.deploy.recorded_graphs import RecordedLibrary
from tests.deploy.tensorrt_device import use_device, write_detector


@pytest.fixture
def detector(tmp_path):
    return write_detector(tmp_path / "detector")


def open_recorded(folder, monkeypatch, library, *, version="8.5", api="auto", dla=None):
    libraries = use_device(monkeypatch, version)
    assert build(["--model", str(folder), "--precision", "fp32", "--batch", "2"]) == 0
    libraries = libraries._replace(graphs=GraphDriver(library))
    plan = (engine_folder(folder, "fp32") / ENGINE_NAME).read_bytes()
    return TensorRtNetwork(libraries, plan, read_model_json(folder), api=api, dla=dla)


def batches(rows):
    """A different batch of each size."""
    shape = tiny_models.detector_info().input_shape
    generator = np.random.RandomState(0)
    return [generator.uniform(0, 1, (num,) + shape).astype(np.float32) for num in rows]


def assert_answers(network, batch):
    outputs = network.infer(batch)
    for name, value in tiny_models.detect(batch).items():
        np.testing.assert_allclose(outputs[name], value, atol=1e-5)


@pytest.mark.parametrize(
    ("version", "api"), [("7.1", "auto"), ("8.5", "bindings"), ("8.5", "named"), ("10.3", "auto")]
)
def test_replayed_runs_answer_as_the_model(detector, monkeypatch, version, api):
    library = RecordedLibrary()
    network = open_recorded(detector, monkeypatch, library, version=version, api=api)
    num = PLAIN_RUNS + 3 * NUM_SLOTS
    for batch in batches([1] * num):
        assert_answers(network, batch)
    assert len(library.held) == NUM_SLOTS
    assert library.calls.count("cuGraphLaunch") == num - PLAIN_RUNS
    network.close()
    assert library.held == {}


def test_graphs_are_thrown_away_when_the_number_of_rows_changes(detector, monkeypatch):
    library = RecordedLibrary()
    network = open_recorded(detector, monkeypatch, library)
    sizes = [1] * (PLAIN_RUNS + 2) + [2] * (PLAIN_RUNS + 1)
    for batch in batches(sizes):
        assert_answers(network, batch)
    assert library.calls.count("cuGraphLaunch") == 3
    assert len(library.held) == 1
    assert_answers(network, batches([1])[0])
    assert library.held == {}
    # Parts of a batch over the profile have the same number of rows, the last one aside.
    assert_answers(network, batches([7])[0])
    network.close()
    assert library.held == {}


def test_timing_begins_without_graphs(detector, monkeypatch):
    library = RecordedLibrary()
    network = open_recorded(detector, monkeypatch, library)
    for batch in batches([1] * (PLAIN_RUNS + 1)):
        assert_answers(network, batch)
    launched = library.calls.count("cuGraphLaunch")
    network.time_gpu(batch=2, warm_up=1, repeats=2)
    assert library.held == {}
    assert library.calls.count("cuGraphLaunch") == launched
    assert_answers(network, batches([1])[0])
    network.close()


@pytest.mark.parametrize("name", ["cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags"])
def test_driver_that_refuses_is_told_once_and_runs_go_on(detector, monkeypatch, caplog, name):
    library = RecordedLibrary(refuses=name)
    network = open_recorded(detector, monkeypatch, library)
    with caplog.at_level(logging.WARNING):
        for batch in batches([1] * (PLAIN_RUNS + 4)):
            assert_answers(network, batch)
    assert [record.message for record in caplog.records] == [
        f"runs without CUDA graphs: {name} gives CUDA error 801"
    ]
    network.close()


def test_no_graphs_on_a_dla(detector, monkeypatch):
    library = RecordedLibrary()
    network = open_recorded(detector, monkeypatch, library, dla=0)
    for batch in batches([2] * (PLAIN_RUNS + 4)):
        assert_answers(network, batch)
    assert library.calls == []
    network.close()


def test_engine_is_checked_as_it_is_replayed(detector, monkeypatch, capsys):
    """A driver whose graphs give other answers is found when the engine is built."""

    class Spoiling(RecordedLibrary):
        def cuGraphLaunch(self, graph, stream):
            return 0  # nothing runs: the outputs stay those of the run before

    libraries = use_device(monkeypatch)
    graphs = GraphDriver(Spoiling())
    monkeypatch.setitem(engine_tensorrt._LOADED, "tensorrt", libraries._replace(graphs=graphs))
    assert build(["--model", str(detector), "--precision", "fp32"]) != 0
    assert "answers otherwise" in capsys.readouterr().err
    assert build(["--model", str(detector), "--precision", "fp32", "--unchecked"]) == 0
