"""Learning rate against progress: NVIDIA's soft start and annealing, and one cycle.

Source of the first: NVIDIA TAO Toolkit 5 (nvidia_tao_tf1 core/hooks/utils.py,
soft_start_annealing_schedule). Pure functions of the step, so that a resumed run needs no state.
"""

import math

from stages.detectnet.config import ScheduleConfig


def learning_rate_at(progress: float, *, maximum: float, config: ScheduleConfig) -> float:
    """Return the rate for progress = step / total steps in [0, 1).

    maximum: the highest rate, > 0; config.minimum_learning_rate must be > 0 for
    soft_start_annealing, which interpolates logarithms.
    """
    if config.name == "one_cycle":
        return _one_cycle(progress, maximum, config)
    return _soft_start_annealing(progress, maximum, config)


def _soft_start_annealing(progress: float, maximum: float, config: ScheduleConfig) -> float:
    if progress < config.soft_start:
        height = progress / config.soft_start
    elif progress > config.annealing:
        height = (1.0 - progress) / (1.0 - config.annealing)
    else:
        height = 1.0
    low, high = math.log(config.minimum_learning_rate), math.log(maximum)
    return math.exp(low + height * (high - low))


def _one_cycle(progress: float, maximum: float, config: ScheduleConfig) -> float:
    if progress < config.soft_start:
        height = progress / config.soft_start
    else:
        rest = (progress - config.soft_start) / (1.0 - config.soft_start)
        height = 0.5 * (1.0 + math.cos(math.pi * rest))
    return config.minimum_learning_rate + height * (maximum - config.minimum_learning_rate)
