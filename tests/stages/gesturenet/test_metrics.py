import numpy as np
import pytest

from stages.gesturenet.metrics import (
    accuracy,
    calibration_bins,
    class_figures,
    confusion_matrix,
    expected_calibration_error,
    false_alarm_share,
    fit_temperature,
    negative_log_likelihood,
    softmax,
    summarise,
)


def test_confusion_counts_actual_in_rows_and_predicted_in_columns() -> None:
    confusion = confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), num_classes=3)
    assert confusion.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert accuracy(confusion) == 0.5


def test_confusion_of_nothing_is_zero() -> None:
    confusion = confusion_matrix(np.zeros(0), np.zeros(0), num_classes=2)
    assert confusion.tolist() == [[0, 0], [0, 0]]
    assert accuracy(confusion) == 0.0


def test_precision_and_recall_by_hand() -> None:
    figures = class_figures(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))
    assert figures.precision.tolist() == [1.0, 2 / 3, 0.0]  # class 2 is never predicted
    assert figures.recall.tolist() == [0.75, 1.0, 0.0]  # class 2 is never there


@pytest.mark.parametrize(
    ("confidence", "class_id", "expected"),
    [
        ([], [], 0.0),
        ([1.0], [0], 0.0),
        ([1.0], [1], 1.0),
        ([0.75, 0.75, 0.75, 0.75], [0, 0, 0, 1], 0.0),  # 3 of 4 right at 0.75
        ([0.75, 0.75], [1, 1], 0.75),
        # Bins (0.5, 0.6] and (0.9, 1]: |0 - 0.6| / 2 + |1 - 0.95| / 2
        ([0.6, 0.95], [1, 0], 0.325),
    ],
)
def test_calibration_error_by_hand(
    confidence: list[float], class_id: list[int], expected: float
) -> None:
    probabilities = np.array([[one, 1 - one] for one in confidence]).reshape(-1, 2)
    error = expected_calibration_error(probabilities, np.array(class_id, int), num_bins=10)
    assert error == pytest.approx(expected)


def test_softmax_is_stable_and_sums_to_one() -> None:
    probabilities = softmax(np.array([[1e4, 0.0], [0.0, 0.0]]))
    assert probabilities.tolist() == [[1.0, 0.0], [0.5, 0.5]]


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 2.5])
def test_fitted_temperature_is_the_one_that_made_the_labels(true_temperature: float) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 4, (20000, 3))
    chance = softmax(logits, temperature=true_temperature).cumsum(axis=1)
    class_id = (generator.random((20000, 1)) > chance).sum(axis=1)
    assert fit_temperature(logits, class_id) == pytest.approx(true_temperature, rel=0.05)


def test_fitted_temperature_never_makes_the_labels_less_likely() -> None:
    generator = np.random.default_rng(1)
    logits, class_id = generator.normal(0, 3, (50, 6)), generator.integers(0, 6, 50)
    fitted = fit_temperature(logits, class_id)
    plain = negative_log_likelihood(logits, class_id)
    assert negative_log_likelihood(logits, class_id, temperature=fitted) <= plain


def test_temperature_is_bounded_when_everything_is_right_and_one_when_nothing_is_there() -> None:
    assert fit_temperature(np.eye(3) * 5, np.arange(3)) == pytest.approx(0.2, rel=1e-3)
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1.0


def test_summary_names_every_class() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    summary = summarise(np.array([0, 1, 0]), probabilities, names=("a", "b"))
    assert summary["accuracy"] == pytest.approx(2 / 3)
    assert summary["num_crops"] == 3
    assert summary["per_class"] == [
        {"gesture": "a", "num_crops": 2, "precision": 1.0, "recall": 0.5},
        {"gesture": "b", "num_crops": 1, "precision": 0.5, "recall": 1.0},
    ]


def test_bins_hold_counts_mean_confidence_and_accuracy() -> None:
    scores = np.array([[0.9, 0.1], [0.94, 0.06], [0.3, 0.7], [0.4, 0.6]])
    bins = calibration_bins(scores, np.array([0, 1, 1, 0]), num_bins=10)
    assert bins.num_answers.tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 1, 1]
    assert bins.confidence[[5, 6, 8, 9]] == pytest.approx([0.6, 0.7, 0.9, 0.94])
    assert bins.accuracy[[5, 6, 8, 9]].tolist() == [0.0, 1.0, 1.0, 0.0]
    empty = calibration_bins(np.zeros((0, 2)), np.zeros(0, int))
    assert empty.num_answers.sum() == 0


def test_false_alarms_are_sure_gestures_of_idle_hands_alone() -> None:
    probabilities = np.array([[0.9, 0.1], [0.59, 0.41], [0.6, 0.4], [0.1, 0.9], [0.9, 0.1]])
    class_id = np.array([1, 1, 1, 1, 0])
    assert false_alarm_share(probabilities, class_id, idle=1, threshold=0.6) == 0.5
    assert false_alarm_share(probabilities[4:], class_id[4:], idle=1, threshold=0.6) is None
