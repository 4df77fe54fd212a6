"""The driver's graphs, with a recorded driver: what is kept, done, refused and given back."""

import pytest

from deploy import cuda_graph
from deploy.core.errors import DeployError
from deploy.cuda_graph import GraphDriver, GraphError, open_driver
from tests.deploy.recorded_graphs import RecordedLibrary, do

STREAM = 7


@pytest.mark.parametrize("old", [False, True])
def test_recorded_work_is_done_at_each_launch_and_not_before(old):
    library, done = RecordedLibrary(old=old), []
    graph = GraphDriver(library).capture(STREAM, lambda: do(lambda: done.append(1)))
    assert done == []
    assert len(library.held) == 1, "the graph is destroyed, what was made of it is not"
    for count in (1, 2):
        graph.launch(STREAM)
        assert len(done) == count
    graph.free()
    graph.free()
    assert library.held == {}
    assert library.calls.count("cuGraphExecDestroy") == 1


@pytest.mark.parametrize(
    "name", ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"]
)
def test_refused_recording_names_the_function_and_holds_nothing(name):
    library = RecordedLibrary(refuses=name)
    with pytest.raises(GraphError, match=f"{name} gives CUDA error 801"):
        GraphDriver(library).capture(STREAM, lambda: None)
    assert library.held == {}


def test_refused_launch_is_an_error_of_deploy():
    graph = GraphDriver(RecordedLibrary(refuses="cuGraphLaunch")).capture(STREAM, lambda: None)
    with pytest.raises(DeployError, match="cuGraphLaunch gives CUDA error 801"):
        graph.launch(STREAM)


@pytest.mark.parametrize(("error", "becomes"), [(DeployError, GraphError), (KeyError, KeyError)])
def test_work_that_fails_ends_the_recording(error, becomes):
    library, done = RecordedLibrary(), []

    def work():
        raise error("no such shape")

    with pytest.raises(becomes, match="no such shape"):
        GraphDriver(library).capture(STREAM, work)
    assert library.held == {}
    do(lambda: done.append(1))
    assert done == [1], "the stream works again"


@pytest.mark.parametrize("name", ["libno-such-driver.so.1", "libc.so.6"])
def test_no_driver_or_one_without_graphs_gives_none(name, monkeypatch):
    monkeypatch.setattr(cuda_graph, "LIBRARY", name)
    assert open_driver() is None


@pytest.mark.parametrize(("value", "is_open"), [("0", False), ("1", True)])
def test_graphs_can_be_switched_off(value, is_open, monkeypatch):
    monkeypatch.setattr(cuda_graph.ctypes, "CDLL", lambda name: RecordedLibrary())
    monkeypatch.setenv("DEPLOY_CUDA_GRAPHS", value)
    assert (open_driver() is not None) is is_open
