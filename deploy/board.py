"""In which state a board measures: JetPack's release, power mode, clocks. Reads files and asks
nvpmodel or nvidia-smi; what is not there is left out.

Without the power mode, figures of a Jetson cannot be compared.
"""

import re
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Sequence

TIMEOUT_S = 10
RELEASE = Path("/etc/nv_tegra_release")
NVPMODEL = (["nvpmodel", "-q"], ["/usr/sbin/nvpmodel", "-q"])
SMI_FIELDS = ("clocks.sm", "clocks.mem", "power.limit", "driver_version")
# Clocks in Hz below /sys, by what they are of.
CLOCKS = {
    "gpu_mhz": ("devices/*gpu*/devfreq/*/cur_freq", "class/devfreq/*.g*/cur_freq"),
    "emc_mhz": ("kernel/debug/bpmp/debug/clk/emc/rate", "kernel/actmon_avg_activity/mc_all"),
}
CPU_CLOCKS = "devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"


def describe_board(root: Path = Path("/")) -> Dict[str, Any]:
    """Return what is known of the state, as plain JSON values; clocks in MHz."""
    found: Dict[str, Any] = {}
    release = _read(root / RELEASE.relative_to("/"))
    if release:
        found["l4t"] = parse_release(release)
    power_mode = parse_power_mode(_first_output(NVPMODEL))
    if power_mode:
        found["power_mode"] = power_mode
    found.update(_clocks(root / "sys"))
    smi = _first_output([["nvidia-smi", "--query-gpu=" + ",".join(SMI_FIELDS), "--format=csv"]])
    if smi:
        found["nvidia_smi"] = parse_smi(smi)
    return found


def parse_release(text: str) -> str:
    """Turn `# R35 (release), REVISION: 4.1, ...` into 35.4.1."""
    match = re.search(r"R(\d+).*?REVISION: ([\d.]+)", text)
    return f"{match.group(1)}.{match.group(2)}" if match else ""


def parse_power_mode(text: str) -> str:
    """Return the name in nvpmodel's answer, `NV Power Mode: MODE_15W`."""
    match = re.search(r"NV Power Mode:\s*(\S.*)", text)
    return match.group(1).strip() if match else ""


def parse_smi(text: str) -> Dict[str, str]:
    """Return the first GPU's row of nvidia-smi's table by its columns."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line]
    return dict(zip(rows[0], rows[1])) if len(rows) > 1 else {}


def _clocks(sys: Path) -> Dict[str, float]:
    found = {}
    for name, patterns in CLOCKS.items():
        values = [_number(path) for pattern in patterns for path in sorted(sys.glob(pattern))]
        if any(values):
            found[name] = round(max(values) / 1e6, 1)
    cpus = [_number(path) for path in sorted(sys.glob(CPU_CLOCKS))]
    if any(cpus):
        found["cpu_mhz"] = round(max(cpus) / 1e3, 1)  # this one is in kHz
    return found


def _first_output(commands: Sequence[List[str]]) -> str:
    """Return what the first command that there is prints, or nothing."""
    for command in commands:
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return done.stdout.decode(errors="replace")
    return ""


def _number(path: Path) -> float:
    text = _read(path).strip()
    return float(text) if text.isdigit() else 0.0


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
