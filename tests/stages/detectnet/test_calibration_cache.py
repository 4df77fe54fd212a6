import pytest

from stages.detectnet.calibration_cache import format_cache, parse_cache, tensorrt_number
from stages.detectnet.errors import DetectNetError


def test_known_range_has_the_known_digits():
    """6 / 127 = 0.04724409 is 3d418306, the example in NVIDIA TAO's source."""
    text = format_cache({"input_1": 6.0}, version=8503)
    assert text == "TRT-8503-EntropyCalibration2\ninput_1: 3d418306\n"


def test_digits_have_no_leading_zeros():
    assert format_cache({"a": 127.0 * 2.0**-126}, version=7100).endswith("a: 800000\n")


def test_parse_reads_what_format_wrote():
    ranges = {"input_1": 1.0, "block_1a_relu/Relu": 3.25, "a: b": 0.001}
    cache = parse_cache(format_cache(ranges, version=10300), source="cache")
    assert cache.version == 10300
    assert list(cache.scales) == list(ranges)
    for name, largest in ranges.items():
        assert cache.scales[name] * 127 == pytest.approx(largest, rel=1e-7)


@pytest.mark.parametrize(
    ("version", "number"), [("8.5.3", 8503), ("7.1.0", 7100), ("10.3.0", 100300)]
)
def test_version_numbers(version, number):
    assert tensorrt_number(version) == number


@pytest.mark.parametrize("largest", [0.0, -1.0, float("inf"), float("nan")])
def test_ranges_that_mean_nothing_are_refused(largest):
    with pytest.raises(ValueError, match="range of conv1 is"):
        format_cache({"conv1": largest}, version=8503)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cache:1: '' is no calibration cache header"),
        ("1\nconv1: 3f800000\n", "cache:1: '1' is no"),
        ("TRT-8503-EntropyCalibration2\nconv1 3f800000\n", "cache:2: 'conv1 3f800000'"),
        ("TRT-8503-EntropyCalibration2\na: 1\nb: xyz\n", "cache:3: 'b: xyz'"),
    ],
)
def test_a_broken_cache_names_file_and_line(text, message):
    with pytest.raises(DetectNetError) as raised:
        parse_cache(text, source="cache")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
