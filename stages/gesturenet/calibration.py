"""Fits a classifier's temperature, so that confidences are the shares of right answers."""

from stages.gesturenet.crops import Crops
from stages.gesturenet.feed import crops_to_tensor
from stages.gesturenet.metrics import fit_temperature
from stages.gesturenet.model import GestureClassifier
from stages.gesturenet.training import predict_logits


def calibrate_temperature(model: GestureClassifier, val: Crops) -> float:
    """Set and return the temperature that fits crops which the model was not trained on.

    Least negative log-likelihood; model is changed in place. An empty val leaves it at 1.
    """
    logits = predict_logits(model, crops_to_tensor(val.images))
    temperature = fit_temperature(logits, val.class_id)
    model.temperature.fill_(temperature)
    return temperature
