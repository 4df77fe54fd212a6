"""What differs between the generations of NVIDIA's toolkit, as one table.

Images: config/config.json of the launchers on PyPI (every launcher from 5.0 to 6.26.3 that lists
detectnet_v2 trains it in one and the same image). Commands: the demo's notebook up to 4.x,
github.com/NVIDIA/tao_tensorflow1_backend (cv/common/entrypoint) from 5.0 on.
Drivers: NVIDIA's quick start guides (launcher's page on PyPI; TAO 5.2).
"""

from typing import NamedTuple

from stages.tao.errors import TaoError

REGISTRY = "nvcr.io"
# The launchers' own pins break: tabulate 0.8.7 does not import on Python 3.10 and later, docker
# 4.3.1 does not speak to requests 2.32 and later. These ones run all of them on 3.10 to 3.12.
LAUNCHER_PINS = (
    "certifi",
    "chardet==3.0.4",
    "docker==4.3.1",
    "idna==2.10",
    "requests==2.31.0",
    "rich>=13.6,<14",
    "six==1.16.0",
    "tabulate==0.9.0",
    "urllib3==1.26.20",
    "websocket-client==0.57.0",
)


class Generation(NamedTuple):
    """One generation.

    launcher: its requirement on PyPI. command: how the launcher is called for detectnet_v2.
    image: of detectnet_v2, after the registry. is_open: models are plain .hdf5 and .onnx (TAO 5),
    else .tlt and .etlt, which need a key. has_tty_option: the launcher can leave the terminal out.
    min_samples_is_int: the type of dbscan_min_samples. driver: the least major version.
    launcher_image: what the launcher takes, where that is another image.
    """

    name: str
    launcher: str
    command: tuple[str, ...]
    image: str
    is_open: bool
    has_tty_option: bool
    min_samples_is_int: bool
    driver: int
    launcher_image: str = ""

    @property
    def model_suffix(self) -> str:
        """Suffix of a trained model."""
        return ".hdf5" if self.is_open else ".tlt"

    @property
    def export_suffix(self) -> str:
        """Suffix of an exported model."""
        return ".onnx" if self.is_open else ".etlt"


_TAO5 = ("tao", "model", "detectnet_v2")
_TF1_5 = "nvidia/tao/tao-toolkit:5.0.0-tf1.15.5"
_ROWS = (
    # TLT 3.0's own launcher came from NVIDIA's index, which is gone; PyPI's starts TAO 3.21.11.
    Generation(
        "tlt3",
        "nvidia-tlt==0.1.21",
        ("tlt", "detectnet_v2"),
        "nvidia/tlt-streamanalytics:v3.0-py3",
        is_open=False,
        has_tty_option=False,
        min_samples_is_int=False,
        driver=465,
        launcher_image="nvidia/tao/tao-toolkit-tf:v3.21.11-tf1.15.4-py3",
    ),
    Generation(
        "tao3",
        "nvidia-tao==0.1.24",
        ("tao", "detectnet_v2"),
        "nvidia/tao/tao-toolkit-tf:v3.22.05-tf1.15.4-py3",
        is_open=False,
        has_tty_option=False,
        min_samples_is_int=False,
        driver=465,
    ),
    Generation(
        "tao4",
        "nvidia-tao==4.0.1",
        ("tao", "detectnet_v2"),
        "nvidia/tao/tao-toolkit:4.0.0-tf1.15.5",
        is_open=False,
        has_tty_option=False,
        min_samples_is_int=False,
        driver=465,
    ),
    Generation(
        "tao5",
        "nvidia-tao==5.5.1",
        _TAO5,
        _TF1_5,
        is_open=True,
        has_tty_option=True,
        min_samples_is_int=True,
        driver=535,
    ),
    Generation(
        "tao6",
        "nvidia-tao==6.26.3",
        _TAO5,
        _TF1_5,
        is_open=True,
        has_tty_option=True,
        min_samples_is_int=True,
        driver=535,
    ),
)
_TABLE = {row.name: row for row in _ROWS}


def find_generation(name: str) -> Generation:
    """Return a row of the table. Raises TaoError for an unknown name."""
    if name not in _TABLE:
        raise TaoError(f"backend.tao.generation is {name!r}, known: {', '.join(_TABLE)}")
    return _TABLE[name]
