"""The client of Triton against a real server on loopback that computes with ONNX Runtime."""

import argparse
import contextlib

import numpy as np
import pytest

from deploy import engine_triton, run
from deploy.core.errors import DeployError
from deploy.engine import open_engine
from deploy.engine_triton import open_triton_engine, parse_address
from deploy.options import add_engine_arguments, open_engines
from tests.deploy import kserve, tiny_models

TRANSPORTS = ("grpc", "http")
SCHEMES = {"grpc": "triton", "http": "triton+http"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    pytest.importorskip("onnx")
    root = tmp_path_factory.mktemp("models")
    return {
        "detector": tiny_models.write_detector(root / "detector"),
        "gesture": tiny_models.write_classifier(root / "gesture"),
    }


@pytest.fixture(params=TRANSPORTS)
def server(request, folders):
    """Serve both models; gives what is served, and the URI."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tritonclient." + request.param)
    with contextlib.ExitStack() as stack:
        opened = {
            name: stack.enter_context(open_engine(folder, runtime="onnxruntime", threads=1))
            for name, folder in folders.items()
        }
        served = kserve.Served(
            {engine.model.name: (engine.model, engine.infer) for engine in opened.values()}
        )
        start = {"grpc": kserve.grpc_server, "http": kserve.http_server}[request.param]
        address = stack.enter_context(start(served))
        yield served, f"{SCHEMES[request.param]}://{address}"


def random_batch(num):
    shape = (num,) + tiny_models.detector_info().input_shape
    return np.random.RandomState(0).uniform(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("uri", "transport", "timeout_s"),
    [
        ("triton://jetson:8001", "grpc", engine_triton.DEFAULT_TIMEOUT_S),
        ("triton+http://10.0.0.2:8000/?timeout_s=0.5", "http", 0.5),
    ],
)
def test_address_by_table(uri, transport, timeout_s):
    address = parse_address(uri)
    assert (address.transport, address.timeout_s) == (transport, timeout_s)


@pytest.mark.parametrize(
    "uri",
    ["", "host:8001", "triton://host", "triton://h:1?timeout_s=0", "triton://h:1?timeout_s=1.1.1"],
)
def test_other_addresses_are_one_line_with_the_form(uri):
    with pytest.raises(DeployError, match=r"expected triton://HOST:8001") as caught:
        parse_address(uri)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("num", [0, 1, 3, 8, 19])
def test_outputs_are_those_of_onnx_runtime_in_parts_of_the_servers_limit(server, folders, num):
    served, uri = server
    batch = random_batch(num)
    with open_triton_engine(folders["detector"], uri) as engine:
        served.batch_sizes.clear()
        outputs = engine.infer(batch)
        assert engine.info()["runtime"] == "triton"
    assert served.batch_sizes == [8] * (num // 8) + [num % 8] * (num % 8 > 0)
    with open_engine(folders["detector"], runtime="onnxruntime", threads=1) as local:
        expected = local.infer(batch)
    assert sorted(outputs) == sorted(expected)
    for name, value in expected.items():
        assert outputs[name].shape == value.shape
        np.testing.assert_allclose(outputs[name], value, atol=1e-6)


def test_run_gives_the_same_events_with_inference_on_the_server(server, folders, tmp_path):
    import cv2

    _, uri = server
    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(12):
        image = tiny_models.draw_frame([("fist", 200 + index, 100)])
        cv2.imwrite(str(frames / f"{index:03d}.png"), image)
    options = ["--source", str(frames), "--fps", "10", "--detector", str(folders["detector"])]
    options += ["--gesture", str(folders["gesture"])]
    texts = []
    for name, extra in (("far", ["--engine", uri]), ("near", ["--runtime", "onnxruntime"])):
        events = tmp_path / f"{name}.jsonl"
        assert run.main([*options, *extra, "--sink", str(events)]) == 0
        texts.append([line.split(', "latency_ms"')[0] for line in events.read_text().splitlines()])
    assert texts[0] == texts[1]
    assert any('"begin"' in line for line in texts[0])


def refused(folder, uri):
    """Return the one line with which a model on a server is refused."""
    with pytest.raises(DeployError) as caught, open_triton_engine(folder, uri) as engine:
        engine.infer(random_batch(1))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_model_that_is_not_ready_is_named(server, folders):
    served, uri = server
    served.ready = False
    message = refused(folders["detector"], uri)
    assert all(word in message for word in ["tiny-detector", "not ready"])


def test_other_shapes_on_the_server_are_named(server, folders):
    served, uri = server
    info, function = served.models["tiny-detector"]
    served.models["tiny-detector"] = (info._replace(input_shape=(3, 64, 64)), function)
    message = refused(folders["detector"], uri)
    assert all(word in message for word in ["input_1", "[-1, 3, 64, 64]", "[-1, 3, 96, 160]"])


def test_output_of_another_shape_is_named(server, folders):
    served, uri = server
    served.spoil = lambda outputs: {name: value[:, :, :-1] for name, value in outputs.items()}
    message = refused(folders["detector"], uri)
    assert all(word in message for word in ["output_", "expected (1, "])


def test_late_answer_is_a_deadline(server, folders):
    served, uri = server
    # Computes without a session, which would be closed before the late answer is made.
    served.models["tiny-detector"] = (tiny_models.detector_info(), tiny_models.detect)
    served.delay_s = 1.0
    message = refused(folders["detector"], uri + "?timeout_s=0.3")
    assert all(word in message for word in ["no answer", "0.3 s"])


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_server_that_is_not_there_is_named(transport, folders):
    pytest.importorskip("tritonclient." + transport)
    message = refused(folders["detector"], f"{SCHEMES[transport]}://127.0.0.1:9")
    assert "does not answer" in message


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_server_that_goes_away_is_named(transport, folders):
    pytest.importorskip("tritonclient." + transport)
    model = tiny_models.detector_info()
    served = kserve.Served({model.name: (model, tiny_models.detect)})
    start = {"grpc": kserve.grpc_server, "http": kserve.http_server}[transport]
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(start(served))
        uri = f"{SCHEMES[transport]}://{address}?timeout_s=2"
        with open_triton_engine(folders["detector"], uri) as engine:
            engine.infer(random_batch(1))
            stack.close()
            with pytest.raises(DeployError, match="does not answer"):
                engine.infer(random_batch(1))


def test_runtime_beside_a_server_is_refused(folders):
    parser = argparse.ArgumentParser()
    add_engine_arguments(parser)
    options = ["--detector", str(folders["detector"]), "--no-gesture"]
    options += ["--engine", "triton://h:1", "--runtime", "onnxruntime"]
    with pytest.raises(DeployError, match="--engine takes no --runtime"), open_engines(
        parser.parse_args(options)
    ):
        pass


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_client_that_is_not_installed_is_one_line_with_the_command(
    transport, folders, monkeypatch
):
    monkeypatch.setitem(__import__("sys").modules, "tritonclient." + transport, None)
    message = refused(folders["detector"], f"{SCHEMES[transport]}://h:1")
    assert all(word in message for word in ["pip install", transport])


@pytest.mark.parametrize("error", [ImportError("no module"), RuntimeError("no grpc support")])
def test_client_without_its_transport_is_one_line(folders, monkeypatch, error):
    def refuse(name):
        raise error

    monkeypatch.setattr(engine_triton.importlib, "import_module", refuse)
    uri = "triton://127.0.0.1:8001"
    message = refused(folders["detector"], uri)
    assert all(
        word in message for word in ["is not installed", "pip install 'tritonclient[grpc]'"]
    )
