"""What TAO, its launcher and docker print, and what a person is told."""

import pytest

from stages.tao.faults import explain


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("tensorflow ...: ResourceExhaustedError: OOM when allocating tensor", "GPU's memory"),
        ("Ran out of GPU memory, please lower the batch size", "lower train.batch_size"),
        (
            "Invalid decryption. 'utf-8' codec can't decode byte. The key used to load the model "
            "is incorrect.",
            "TAO_KEY is not the key",
        ),
        (
            "AssertionError: Config path must be a valid unix path. No file found at: "
            "~/.docker/config.json. Did you run docker login?",
            "docker login nvcr.io",
        ),
        (
            "docker: Error response from daemon: pull access denied for nvcr.io/nvidia/tao",
            "docker login nvcr.io",
        ),
        (
            'Docker pull failed. 500 Server Error: Internal Server Error ("Get '
            'https://nvcr.io/v2/: net/http: TLS handshake timeout")',
            "could not be pulled",
        ),
        (
            'docker: Error response from daemon: could not select device driver "" with '
            "capabilities: [[gpu]]",
            "nvidia-ctk runtime configure",
        ),
        (
            "docker.errors.DockerException: Error while fetching server API version: "
            "('Connection aborted.', FileNotFoundError(2, 'No such file or directory'))",
            "the docker daemon does not answer",
        ),
        ("the input device is not a TTY", "set backend.tao.via to docker"),
        (
            "google.protobuf.text_format.ParseError: 12:3 : Couldn't parse integer: 0.05",
            "TAO does not read the spec",
        ),
        ("AssertionError: Default output file /x/detector.onnx already exists", "in the way"),
        ("PermissionError: [Errno 13] Permission denied: '/workspace/x'", "look whose .work is"),
    ],
)
def test_a_known_line_is_explained_with_a_remedy(line: str, words: str) -> None:
    noise = ["INFO: Log file already exists at /x/status.json", line, "Execution status: FAIL"]
    told = explain(noise)
    assert words in told
    assert "\n" not in told


def test_harmless_lines_explain_nothing() -> None:
    lines = ["INFO: Log file already exists at /x/status.json", "ValueError: shapes differ"]
    lines += ["Telemetry data couldn't be sent, but the command ran successfully.", ""]
    lines += ["Execution status: FAIL", "2026 [TAO Toolkit] [INFO] root 377: Stopping container."]
    assert explain(lines) == "TAO says: ValueError: shapes differ"


def test_the_last_status_record_speaks_before_the_last_line() -> None:
    assert explain(["Execution status: PASS"], message="Bad spec") == "TAO says: Bad spec"
    assert explain([]) == "TAO says: no message"


def test_a_long_line_is_cut() -> None:
    assert len(explain(["x" * 5000])) < 250
