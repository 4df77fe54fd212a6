"""The state of a board from its files and its tools' words."""

import pytest

from deploy import board
from deploy.board import describe_board, parse_power_mode, parse_release, parse_smi


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref", "35.4.1"),
        ("# R32 (release), REVISION: 7.1, GCID: 1", "32.7.1"),
        ("something else", ""),
    ],
)
def test_release_by_table(text, expected):
    assert parse_release(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", ""), ("NV Power Mode: MODE_15W_6CORE\n2\n", "MODE_15W_6CORE"), ("NVPM ERROR", "")],
)
def test_power_mode_by_table(text, expected):
    assert parse_power_mode(text) == expected


def test_smi_gives_the_first_gpu_by_column():
    text = "clocks.sm [MHz], power.limit [W]\n1980 MHz, 700.00 W\n1005 MHz, 700.00 W\n"
    assert parse_smi(text) == {"clocks.sm [MHz]": "1980 MHz", "power.limit [W]": "700.00 W"}
    assert parse_smi("clocks.sm [MHz]\n") == {}


def test_files_of_a_jetson_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(board, "_first_output", lambda commands: "NV Power Mode: MAXN\n0\n")
    files = {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1",
        "sys/devices/17000000.gpu/devfreq/17000000.gpu/cur_freq": "918000000",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "729600",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1728000",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    found = describe_board(tmp_path)
    assert found["l4t"] == "36.4.3"
    assert found["power_mode"] == "MAXN"
    assert (found["gpu_mhz"], found["cpu_mhz"]) == (918.0, 1728.0)
    assert "emc_mhz" not in found


def test_machine_that_tells_nothing_gives_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(board, "NVPMODEL", (["no-such-program"],))
    monkeypatch.setattr(board, "_first_output", lambda commands: "")
    assert describe_board(tmp_path) == {}


def test_first_program_that_answers_is_taken():
    commands = [["no-such-program"], ["sh", "-c", "exit 3"], ["sh", "-c", "echo yes"]]
    assert board._first_output(commands) == "yes\n"
