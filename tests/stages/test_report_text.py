"""The report's tables hold exactly the figures they are given."""

import pytest

from stages._report import (
    event_accuracy,
    event_table,
    gesture_table,
    nested,
    number,
    pruning_table,
    render_report,
    table,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.12349, "0.123"), (1.0, "1.000"), (1234567, "1,234,567"), ("ok", "ok")],
)
def test_number_formats_a_cell(value: object, text: str):
    assert number(value) == text


def test_table_without_rows_says_so():
    assert table(("a", "b"), []) == "Nothing was measured."


def test_table_puts_numbers_right_and_keeps_the_order():
    text = table(("name", "n"), [("x", 1), ("y", 20)])
    assert text.splitlines() == ["| name | n |", "| --- | ---: |", "| x | 1 |", "| y | 20 |"]


def test_nested_finds_measurements_at_any_depth():
    values = {"this-machine": {"openvino": {"int8": {"ap50": 0.9}}}, "choice": "openvino"}
    assert nested(values) == {"this-machine/openvino/int8": {"ap50": 0.9}}


def test_event_table_leaves_out_holds_and_counts_all():
    events = [
        {"phase": phase, "time": t, "track": 1, "gesture": "ok", "confidence": 0.9}
        for t, phase in enumerate(("begin", "hold", "hold", "end"))
    ]
    text = event_table(events)
    assert text.startswith("4 events, 2 of them not `hold`.")
    assert text.count("| ok |") == 2


def test_report_shows_each_step_and_survives_missing_results():
    per_video = [{"video": "TEST_A", "ap50": 0.5}]
    results = {"evaluate/export": {"ap50": 0.912345, "recall_sure": 0.61, "per_video": per_video}}
    text = render_report(results, events=[], pictures={"curve": "evaluate/curve.png"})
    assert "| recall at precision 0.97, IoU 0.3 |" in text
    assert "| export | exported, INT8 | - | 0.912 | - | - | - | - | - | 0.610 |" in text
    assert "| TEST_A | - | - | 0.500 |" in text
    assert "![curve](evaluate/curve.png)" in text


def test_the_figures_of_tao_and_a_float_export_are_named_as_such():
    results = {"evaluate/train": {"tao_map": 0.615}, "evaluate/export": {"precision": "fp32"}}
    text = render_report(results, events=[], pictures={})
    assert "| mAP by TAO itself |" in text
    assert "| train | full width, FP32 | - | - | - | - | - | - | - | - | 0.615 |" in text
    assert "| export | exported, FP32 (INT8 with its cache) | - |" in text


def test_an_encrypted_gesture_model_has_no_figures_but_a_place_to_go_on():
    gesture = {"encrypted": True, "gesturenet": "deployable_v2.0.2"}
    text = render_report({"gesture": gesture}, events=[], pictures={})
    assert "GestureNet (deployable_v2.0.2) is encrypted and has to be converted on the" in text
    assert "(gesture/convert.md)" in text
    assert "Accuracy" not in text


def test_pruning_table_has_size_work_and_time_before_and_after():
    results = {
        "prune": {"params_before": 2000, "params_after": 500, "macs_before": 8, "macs_after": 6},
        "evaluate/train_speed": {"infer_ms_p50": 8.0},
        "evaluate/prune_speed": {"infer_ms_p50": 2.0},
    }
    lines = pruning_table(results).splitlines()
    assert lines[0] == "| cost | before | after | left |"
    assert lines[2:] == [
        "| parameters | 2,000 | 500 | 0.250 |",
        "| multiply-accumulates per frame | 8 | 6 | 0.750 |",
        "| network, ms per frame (median; PyTorch, FP32, CPU) | 8.000 | 2.000 | 0.250 |",
    ]


def test_pruning_table_shows_what_there_is():
    assert pruning_table({}) == "Nothing was measured."
    assert "PyTorch, FP32, CPU) | - | - | - |" in pruning_table({"prune": {"params_before": 1}})


def test_the_sensitivity_picture_stands_below_the_pruning_and_not_at_the_end():
    pictures = {"sensitivity": "prune/sensitivity.png", "curve": "evaluate/curve.png"}
    text = render_report({}, events=[], pictures=pictures)
    assert text.count("prune/sensitivity.png") == 1
    before, after = text.split("![sensitivity](prune/sensitivity.png)")
    assert "## Pruning" in before
    assert "## Videos of the test split" in after


def test_event_accuracy_has_shares_counts_and_delays():
    measured = {
        "precision": 0.9,
        "recall": 0.8,
        "false_alarm_frac": 0.02,
        "delay_p50_s": 0.3,
        "delay_max_s": 0.6,
        "num_begins": 30,
        "num_shown": 34,
        "num_idle": 50,
        "num_videos": 12,
    }
    text = event_accuracy(measured)
    assert "| `begin` events that are right | 0.900 | 30 |" in text
    assert "| hands without a gesture that began one | 0.020 | 50 |" in text
    assert text.endswith("0.300 s (median), at most 0.600 s, in 12 videos.")


def test_event_accuracy_without_labelled_videos_says_so():
    assert event_accuracy({}).startswith("No test video has labelled gestures")
    assert event_accuracy({"num_videos": 0}).startswith("No test video has labelled gestures")


def test_gestures_are_listed_by_source_where_there_are_several():
    sources = [{"source": "anna", "accuracy": 0.75, "num_crops": 8}]
    gesture = {"accuracy": 0.9, "ece": 0.03, "num_crops": 10, "per_source": sources}
    assert "anna" not in gesture_table(gesture)
    sources.append({"source": "dataset", "accuracy": 1.0, "num_crops": 2})
    text = gesture_table(gesture)
    assert "expected calibration error 0.030; of the hands" in text
    assert "| anna | 0.750 | 8 |" in text
