"""Frames through engines in the recorded TensorRT, whose kernel g++ has compiled for the CPU."""

import contextlib
import json

import numpy as np
import pytest

from deploy import tensorrt_kernel
from deploy.build import main as build
from deploy.core.events import to_document
from deploy.engine import open_engine
from deploy.pipeline import Pipeline
from deploy.run import main as run
from deploy.source import open_source
from tests.deploy import tiny_models
from tests.deploy.clips import write_clip
from tests.deploy.host_kernel import compile_for_host, write_cubin
from tests.deploy.recorded_pycuda import make_pycuda
from tests.deploy.tensorrt_device import use_device, write_classifier, write_detector


@pytest.fixture
def detector(tmp_path):
    return write_detector(tmp_path / "detector")


def test_two_networks_share_one_context_and_the_frame(tmp_path, monkeypatch):
    """The frame goes up once; the kernel cuts all hands of it out in one launch."""
    launch = compile_for_host(tmp_path)
    monkeypatch.setattr(tensorrt_kernel, "find_nvcc", lambda: "nvcc")
    monkeypatch.setattr(tensorrt_kernel, "_run", write_cubin)
    cuda = make_pycuda(launch=launch)
    use_device(monkeypatch, cuda=cuda)
    folders = write_detector(tmp_path / "d"), write_classifier(tmp_path / "c")
    assert build(["--model", str(folders[0]), "--model", str(folders[1])]) == 0
    image = tiny_models.draw_frame([("fist", 64, 64), ("ok", 384, 192)])
    regions = np.array([[64, 64, 192, 192], [384, 192, 512, 320]], np.float32)
    with open_engine(folders[0], runtime="tensorrt") as one:
        with open_engine(folders[1], runtime="tensorrt") as other:
            assert one.takes_frames
            assert cuda.ledger.retained == 1
            one.put_frame(image)
            coverage = one.run_frame()["output_cov/Sigmoid"]
            del cuda.launches[:]
            other.put_frame(image, regions)
            classes = other.run_frame()["activation_18"].argmax(axis=1)
            assert [grid[2] for grid in cuda.launches] == [2]
            other.put_frame(image, np.concatenate([regions] * 12))
            assert len(other.run_frame()["activation_18"]) == 24
        assert cuda.ledger.retained == 1
    assert cuda.ledger.retained == 0
    assert cuda.ledger.allocations == 0
    assert coverage.shape == (1, 1, 6, 10)
    assert coverage.max() > 0.9
    assert [tiny_models.CLASSES[index] for index in classes] == ["fist", "ok"]


def test_classifier_finds_either_of_the_two_latest_frames_on_the_gpu(monkeypatch):
    from deploy.tensorrt_frames import FrameStore

    cuda = make_pycuda()
    uploads = []
    copy = cuda.memcpy_htod_async
    monkeypatch.setattr(cuda, "memcpy_htod_async", lambda *a: uploads.append(1) or copy(*a))
    cuda.Device(0).retain_primary_context().push()
    store, stream = FrameStore(cuda, mapped=False), cuda.Stream()
    frames = [np.full((2, 3, 3), value, np.uint8) for value in range(3)]
    places = [store.put(frame, stream).address for frame in frames[:2]]
    assert [store.take(frame, stream).address for frame in frames[:2]] == places
    assert len(uploads) == 2
    store.take(frames[0], stream)
    assert len(uploads) == 3, "a frame is taken once only"
    again = [store.put(frames[2], stream) for _ in range(2)]
    assert again[0].address != again[1].address
    taken = store.take(frames[2], stream)
    assert taken.image is again[1].image, "the latest of an array's frames"
    del taken, again
    larger = np.zeros((4, 5, 3), np.uint8)
    store.take(larger, stream)
    assert store.close()
    assert cuda.ledger.allocations == 0


def test_classifier_sees_what_a_source_wrote_into_the_same_array(tmp_path, monkeypatch):
    launch = compile_for_host(tmp_path)
    monkeypatch.setattr(tensorrt_kernel, "find_nvcc", lambda: "nvcc")
    monkeypatch.setattr(tensorrt_kernel, "_run", write_cubin)
    use_device(monkeypatch, cuda=make_pycuda(launch=launch))
    folder = write_classifier(tmp_path / "c")
    assert build(["--model", str(folder)]) == 0
    regions = np.array([[64, 64, 192, 192]], np.float32)
    image = np.zeros((384, 640, 3), np.uint8)
    with open_engine(folder, runtime="tensorrt") as engine:
        for gesture in ("fist", "ok"):
            image[:] = tiny_models.draw_frame([(gesture, 64, 64)])
            engine.put_frame(image, regions)
            found = engine.run_frame()["activation_18"].argmax()
            assert tiny_models.CLASSES[found] == gesture


def test_two_frames_are_under_way_and_a_third_is_refused(detector, monkeypatch, tmp_path):
    monkeypatch.setattr(tensorrt_kernel, "find_nvcc", lambda: "nvcc")
    monkeypatch.setattr(tensorrt_kernel, "_run", write_cubin)
    use_device(monkeypatch, cuda=make_pycuda(launch=compile_for_host(tmp_path)))
    assert build(["--model", str(detector), "--precision", "fp32"]) == 0
    frames = [tiny_models.draw_frame([("fist", x, 64)]) for x in (64, 256, 448)]
    with open_engine(detector, runtime="tensorrt") as engine:
        alone = []
        for frame in frames:
            engine.put_frame(frame)
            assert engine.made_input().shape == (1, 3, 96, 160)
            alone.append(engine.run_frame()["output_cov/Sigmoid"])
        engine.put_frame(frames[0])
        engine.put_frame(frames[1])
        with pytest.raises(ValueError, match="2 batches are under way; collect one first"):
            engine.put_frame(frames[2])
        first = engine.run_frame()["output_cov/Sigmoid"]
        engine.put_frame(frames[2])
        rest = [engine.run_frame()["output_cov/Sigmoid"] for _ in range(2)]
    for seen, expected in zip([first] + rest, alone):
        np.testing.assert_array_equal(seen, expected)
    assert not np.array_equal(alone[0], alone[1])


@pytest.mark.parametrize(
    ("integrated", "sm", "lends"),
    [(False, (6, 1), True), (True, (5, 3), False), (True, (6, 2), False), (True, (7, 2), True)],
)
def test_frames_are_lent_where_the_cpu_reads_them_through_its_caches(
    detector, monkeypatch, tmp_path, integrated, sm, lends
):
    monkeypatch.setattr(tensorrt_kernel, "find_nvcc", lambda: "nvcc")
    monkeypatch.setattr(tensorrt_kernel, "_run", write_cubin)
    cuda = make_pycuda(integrated=integrated, sm=sm, launch=compile_for_host(tmp_path))
    use_device(monkeypatch, cuda=cuda)
    assert build(["--model", str(detector), "--precision", "fp32"]) == 0
    image = tiny_models.draw_frame([("fist", 64, 64)])
    with open_engine(detector, runtime="tensorrt") as engine:
        assert (engine.lend_image(image.shape) is not None) == lends
        assert (engine.upload(image) is not image) == lends
        engine.put_frame(engine.upload(image))
        assert engine.run_frame()["output_cov/Sigmoid"].max() > 0.9


def test_run_with_a_gpu_tells_the_same_events_from_lent_frames(tmp_path, monkeypatch):
    """Decoded into lent memory, uploaded by the reader, one frame ahead: as one by one."""
    monkeypatch.setattr(tensorrt_kernel, "find_nvcc", lambda: "nvcc")
    monkeypatch.setattr(tensorrt_kernel, "_run", write_cubin)
    cuda = make_pycuda(launch=compile_for_host(tmp_path))
    use_device(monkeypatch, cuda=cuda)
    folders = write_detector(tmp_path / "d"), write_classifier(tmp_path / "c")
    assert build(["--model", str(folders[0]), "--model", str(folders[1])]) == 0
    hands = [[("fist" if n < 12 else "ok", 40 + 8 * n, 64)] for n in range(24)]
    clip = write_clip(tmp_path / "clip.mp4", hands)
    with contextlib.ExitStack() as stack:
        engines = [stack.enter_context(open_engine(f, runtime="tensorrt")) for f in folders]
        with open_source(clip) as source:
            alone = Pipeline(*engines, source=clip)
            events = [e for frame in source.frames() for e in alone.process(frame).events]
            events += alone.finish()
    out, pictures = tmp_path / "events.jsonl", tmp_path / "pictures"
    words = ["--source", clip, "--sink", str(out), "--sink", str(pictures)]
    words += ["--runtime", "tensorrt"]
    words += ["--detector", str(folders[0]), "--gesture", str(folders[1])]
    assert run(words) == 0
    told = [json.loads(line) for line in out.read_text().splitlines()]
    expected = [to_document(event) for event in events]
    for document in told + expected:
        del document["latency_ms"]
    assert told == expected
    assert {document["gesture"] for document in told} >= {"fist", "ok"}
    assert len(list(pictures.iterdir())) == 24
    assert (cuda.ledger.retained, cuda.ledger.allocations) == (0, 0)
