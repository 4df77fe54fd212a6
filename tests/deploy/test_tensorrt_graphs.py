"""Networks whose runs are recorded and replayed, in the recorded TensorRT and CUDA."""

import logging

import numpy as np
import pytest

from deploy import engine_tensorrt, tensorrt_kernel
from deploy.build import main as build
from deploy.core.model_json import read_model_json
from deploy.cuda_graph import GraphDriver
from deploy.engine import open_engine
from deploy.tensorrt_graphs import FEW_ROWS, PLAIN_RUNS
from deploy.tensorrt_network import NUM_SLOTS, TensorRtNetwork
from deploy.tensorrt_record import ENGINE_NAME, engine_folder
from tests.deploy import tiny_models
from tests.deploy.host_kernel import compile_for_host, write_cubin
from tests.deploy.recorded_graphs import RecordedLibrary
from tests.deploy.recorded_pycuda import make_pycuda
from tests.deploy.tensorrt_device import use_device, write_classifier, write_detector


@pytest.fixture
def detector(tmp_path):
    return write_detector(tmp_path / "detector")


def open_recorded(
    folder, monkeypatch, library, *, version="8.5", api="auto", dla=None, batch=2, cuda=None
):
    """Build and open the detector; library: None for no graphs."""
    libraries = use_device(monkeypatch, version, cuda=cuda)
    words = ["--precision", "fp32", "--batch", str(batch)]
    assert build(["--model", str(folder), *words]) == 0
    libraries = libraries._replace(graphs=library and GraphDriver(library))
    plan = (engine_folder(folder, "fp32") / ENGINE_NAME).read_bytes()
    network = TensorRtNetwork(libraries, plan, read_model_json(folder), api=api, dla=dla)
    del libraries.trt.batches[:]
    return network, libraries.trt.batches


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
    network, _ = open_recorded(detector, monkeypatch, library, version=version, api=api)
    num = PLAIN_RUNS + 3 * NUM_SLOTS
    for batch in batches([1] * num):
        assert_answers(network, batch)
    assert len(library.held) == NUM_SLOTS
    assert library.calls.count("cuGraphLaunch") == num - PLAIN_RUNS
    network.close()
    assert library.held == {}


def test_few_rows_share_their_graphs(detector, monkeypatch):
    library = RecordedLibrary()
    network, ran = open_recorded(detector, monkeypatch, library, batch=4)
    sizes = [3] * (PLAIN_RUNS + NUM_SLOTS) + [1, 3, 2, 2, 1, 3]
    for batch in batches(sizes):
        assert_answers(network, batch)
    assert set(ran) == {3}
    assert library.calls.count("cuGraphLaunch") == len(sizes) - PLAIN_RUNS
    assert len(library.held) == NUM_SLOTS
    network.close()
    assert library.held == {}


def test_few_rows_run_as_many_as_there_have_been_at_most(detector, monkeypatch):
    library = RecordedLibrary()
    network, ran = open_recorded(detector, monkeypatch, library, batch=FEW_ROWS + 1)
    sizes = [1, 1, 2, 1, FEW_ROWS, 1, FEW_ROWS + 1, 1, 2]
    for batch in batches(sizes):
        assert_answers(network, batch)
    most = FEW_ROWS
    assert ran == [1, 1, 2, 2, most, most, most + 1, most, most]
    network.close()


def test_rows_of_a_submitted_batch_are_its_own_bits(detector, monkeypatch):
    """Rows that run along are cut off, and change nothing in the others."""
    network, _ = open_recorded(detector, monkeypatch, None, batch=4)
    sizes = [4, 2, 1, 3, 1, 2, 4, 1]
    alone = [network.infer(batch) for batch in batches(sizes)]
    network.close()
    network, ran = open_recorded(detector, monkeypatch, RecordedLibrary(), batch=4)
    for batch, expected in zip(batches(sizes), alone):
        tickets = [network.submit(batch) for _ in range(NUM_SLOTS)]
        for ticket in tickets:
            outputs = network.collect(ticket)
            for name, value in expected.items():
                np.testing.assert_array_equal(outputs[name], value)
    assert set(ran) == {4}
    network.close()


def test_graphs_of_many_rows_are_thrown_away_when_their_number_changes(detector, monkeypatch):
    library = RecordedLibrary()
    few, many = FEW_ROWS + 1, FEW_ROWS + 2
    network, ran = open_recorded(detector, monkeypatch, library, batch=many)
    sizes = [few] * (PLAIN_RUNS + 2) + [many] * (PLAIN_RUNS + 1)
    for batch in batches(sizes):
        assert_answers(network, batch)
    assert ran == sizes
    assert library.calls.count("cuGraphLaunch") == 3
    assert len(library.held) == 1
    assert_answers(network, batches([few])[0])
    assert library.held == {}
    # Parts of a batch over the profile have the same number of rows, the last one aside.
    assert_answers(network, batches([3 * many + 1])[0])
    network.close()
    assert library.held == {}


def test_no_row_runs_along_on_a_jetson(detector, monkeypatch):
    library, cuda = RecordedLibrary(), make_pycuda(integrated=True)
    network, ran = open_recorded(detector, monkeypatch, library, batch=4, cuda=cuda)
    sizes = [2] * (PLAIN_RUNS + NUM_SLOTS) + [1, 2, 3, 1]
    for batch in batches(sizes):
        assert_answers(network, batch)
    assert ran == sizes
    assert library.calls.count("cuGraphLaunch") == NUM_SLOTS
    assert library.held == {}
    network.close()


def test_no_row_runs_along_without_graphs(detector, monkeypatch):
    network, ran = open_recorded(detector, monkeypatch, None, batch=4)
    sizes = [4, 1, 3, 2]
    for batch in batches(sizes):
        assert_answers(network, batch)
    assert ran == sizes
    network.close()


def test_kernel_cuts_out_only_the_regions_that_there_are(tmp_path, monkeypatch):
    library, cuda = RecordedLibrary(), make_pycuda(launch=compile_for_host(tmp_path))
    monkeypatch.setattr(tensorrt_kernel, "find_nvcc", lambda: "nvcc")
    monkeypatch.setattr(tensorrt_kernel, "_run", write_cubin)
    libraries = use_device(monkeypatch, cuda=cuda)._replace(graphs=GraphDriver(library))
    monkeypatch.setitem(engine_tensorrt._LOADED, "tensorrt", libraries)
    folder = write_classifier(tmp_path / "classifier")
    assert build(["--model", str(folder)]) == 0
    hands = [("fist", 64, 64), ("ok", 384, 192), ("stop", 256, 0)]
    image = tiny_models.draw_frame(hands)
    regions = np.array([[x, y, x + 128, y + 128] for _, x, y in hands], np.float32)
    counts = [3] * (PLAIN_RUNS + NUM_SLOTS) + [1, 2, 3, 1, 1]
    with open_engine(folder, runtime="tensorrt") as engine:
        del cuda.launches[:], libraries.trt.batches[:], library.calls[:]
        for count in counts:
            engine.put_frame(image, regions[:count])
            assert engine.made_input().shape == (count, 3, 160, 160)
            rows = engine.run_frame()["activation_18"]
            seen = [tiny_models.CLASSES[index] for index in rows.argmax(axis=1)]
            assert seen == [name for name, _, _ in hands[:count]]
    assert [grid[2] for grid in cuda.launches] == counts
    assert set(libraries.trt.batches) == {3}
    assert library.calls.count("cuGraphLaunch") == len(counts) - PLAIN_RUNS


def test_timing_begins_without_graphs_and_runs_the_rows_that_are_asked(detector, monkeypatch):
    library = RecordedLibrary()
    network, ran = open_recorded(detector, monkeypatch, library)
    for batch in batches([2] * (PLAIN_RUNS + 1)):
        assert_answers(network, batch)
    launched = library.calls.count("cuGraphLaunch")
    del ran[:]
    network.time_gpu(batch=1, warm_up=1, repeats=2)
    assert ran == [1, 1, 1]
    assert library.held == {}
    assert library.calls.count("cuGraphLaunch") == launched
    assert_answers(network, batches([1])[0])
    network.close()


@pytest.mark.parametrize("name", ["cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags"])
def test_driver_that_refuses_is_told_once_and_runs_go_on(detector, monkeypatch, caplog, name):
    library = RecordedLibrary(refuses=name)
    network, _ = open_recorded(detector, monkeypatch, library)
    with caplog.at_level(logging.WARNING):
        for batch in batches([1] * (PLAIN_RUNS + 4)):
            assert_answers(network, batch)
    assert [record.message for record in caplog.records] == [
        f"runs without CUDA graphs: {name} gives CUDA error 801"
    ]
    network.close()


def test_no_graphs_on_a_dla(detector, monkeypatch):
    library = RecordedLibrary()
    network, _ = open_recorded(detector, monkeypatch, library, dla=0)
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
