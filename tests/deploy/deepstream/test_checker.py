"""The checker on the keys that NVIDIA's demo uses, release by release, and on broken files."""

import pytest

from deploy.core.errors import DeployError
from deploy.deepstream.checker import check_folder, check_text
from deploy.deepstream.keys import key_history, known_keys
from deploy.deepstream.versions import RELEASES, find_release

# The groups of the demo's deepstream-app file that later releases refuse, and some that they take.
APP = """[application]
enable-perf-measurement=1
# a comment = no key
[sink0]
enable=1
type=2
display-id=0
offset-x=0
offset-y=0
overlay-id=1
[primary-gie]
enable=1
bbox-border-color0=1;0;0;1
bbox-border-color 0=0;1;0;1
[tracker]
enable=1
ll-lib-file=/opt/nvidia/deepstream/deepstream-5.0/lib/libnvds_mot_klt.so
enable-batch-process=1
"""
INFER = """[property]
tlt-model-key=KEY
tlt-encoded-model=detector.etlt
uff-input-blob-name=input_1
network-mode=1
[class-attrs-all]
pre-cluster-threshold=0.7
minBoxes=1
"""
SERVER = """infer_config {
  unique_id: 4
  gpu_ids: [0]
  backend { trt_is { model_name: "gestures" version: -1 model_repo { root: "repo" } } }
  preprocess { network_format: IMAGE_FORMAT_RGB normalize { channel_offsets: [0, 0, 0] } }
  postprocess { labelfile_path: "labels.txt" classification { threshold: 0.5 } }
}
input_control { process_mode: PROCESS_MODE_CLIP_OBJECTS async_mode: true }
"""
SINK = [(7, "display-id"), (8, "offset-x"), (9, "offset-y"), (10, "overlay-id")]
KLT = [(17, "libnvds_mot_klt.so")]
BATCH = [(18, "enable-batch-process")]


def problems_of(text, version):
    found = check_text(text, "file.txt", find_release(version))
    return [(problem.line, problem.message) for problem in found]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("5.0", []),
        ("5.1", []),
        ("6.0", KLT),
        ("6.1", SINK + KLT),
        ("6.3", SINK + KLT + BATCH),
        ("7.1", SINK + KLT + BATCH),
        ("9.2", SINK + KLT + BATCH),
    ],
)
def test_what_breaks_the_demos_application_file(version, expected):
    found = problems_of(APP, version)
    assert [line for line, _ in found] == [line for line, _ in expected]
    for (_, message), (_, word) in zip(found, expected):
        assert word in message
        assert "instead: " in message


@pytest.mark.parametrize("version", [release.version for release in RELEASES])
@pytest.mark.parametrize("text", [INFER, SERVER], ids=["nvinfer", "nvinferserver"])
def test_the_demos_inference_files_are_accepted_by_every_release(version, text):
    assert problems_of(text, version) == []


@pytest.mark.parametrize(
    ("text", "version", "line", "words"),
    [
        ("[tracker]\nenabled=1\n", "6.3", 2, ["enabled", "unknown", "ll-lib-file"]),
        ("[sink0]\n\nconn-id=0\n", "5.0", 3, ["conn-id", "from DeepStream 6.1"]),
        ("[tracer]\nenable=1\n", "6.3", 1, ["[tracer]", "tracker"]),
        ("[osd]\nenable\n", "6.3", 2, ["'enable'", "key=value"]),
        ("[osd]\nenable=1\nenable=0\n", "6.3", 3, ["line 2"]),
        ("[streammux]\nconfig-file=a\n", "9.1", 2, ["config-file-path"]),
        ("[streammux]\nconfig-file=a\n", "7.1", 2, ["not confirmed for 7.1"]),
        ("[property]\nstrongly-typed=1\n", "7.1", 2, ["9.1"]),
        ("[property]\nstrongly-typed=1\n", "6.3", 2, ["9.1"]),
        (SERVER.replace("trt_is", "triton"), "5.1", 4, ["triton", "6.0", "trt_is"]),
        (SERVER.replace("unique_id", "unique_ids"), "6.3", 2, ["unique_ids", "unique_id"]),
        (SERVER.replace("_RGB", "_RGBA"), "6.3", 5, ["IMAGE_FORMAT_BGR"]),
        (SERVER.replace("true", "2"), "6.3", 8, ["true or false"]),
        (SERVER.replace("unique_id: 4", 'unique_id: "4"'), "6.3", 2, ["expected int"]),
        ('name: "m"\nplatform: "p"\nmax_batch: 1\n', "6.3", 3, ["max_batch", "max_batch_size"]),
    ],
)
def test_a_problem_has_its_line_and_the_next_step(text, version, line, words):
    ((seen, message),) = problems_of(text, version)
    assert seen == line
    for word in words:
        assert word in message


@pytest.mark.parametrize("text", [SERVER[:-3], SERVER + "}", "infer_config { @ }", "infer_config"])
def test_what_is_no_protobuf_text_is_one_line(text):
    with pytest.raises(DeployError, match=r"^file\.txt:\d+: ") as caught:
        problems_of(text, "6.3")
    assert "\n" not in str(caught.value)


def test_labels_are_no_configuration():
    assert check_text("hand\n", "labels.txt", find_release("6.3")) is None


def test_folder_without_configurations_is_one_line(tmp_path):
    (tmp_path / "labels.txt").write_text("hand\n", encoding="utf-8")
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(DeployError, match="folder|no configuration"):
            check_folder(folder, find_release("6.3"))


def test_releases_between_two_that_were_read_take_what_both_take():
    before, between, after = (known_keys(number) for number in ((6, 3), (7, 0), (9, 1)))
    assert between.read_from == ("6.3", "9.1")
    for group, keys in between.keys.items():
        assert keys == before.keys[group] & after.keys[group]


@pytest.mark.parametrize(
    ("group", "key", "expected"),
    [
        ("sink", "overlay-id", ("5.0", "6.1")),
        ("tracker", "enable-past-frame", ("5.0", "6.3")),
        ("property", "strongly-typed", ("9.1", None)),
        ("sink", "nonsense", (None, None)),
    ],
)
def test_history_of_keys(group, key, expected):
    assert key_history(group, key) == expected
