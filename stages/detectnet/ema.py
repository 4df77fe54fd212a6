"""Averaged weights: an exponential moving average of everything floating in a model's state."""

import torch
from torch import nn

WARMUP_STEPS = 10.0


class WeightAverage:
    """Moving average by state name; works on any module, quantized ones too, without copying it.

    The decay grows as (1 + n) / (10 + n) up to `decay`, so that short runs do not remember their
    random start. Call update after each optimiser step.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self.values = {name: value.clone() for name, value in floating_state(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's present state."""
        self.num_updates += 1
        warm = (1.0 + self.num_updates) / (WARMUP_STEPS + self.num_updates)
        decay = min(self.decay, warm)
        state = floating_state(model)
        for name in state.keys() - self.values.keys():
            self.values[name] = state[name].clone()
        names = [name for name in self.values if name in state]
        averages = [self.values[name] for name in names]
        torch._foreach_lerp_(averages, [state[name] for name in names], 1.0 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Write the averages into the model."""
        state = floating_state(model)
        for name, value in self.values.items():
            state[name].copy_(value)

    def state_dict(self) -> dict[str, object]:
        """Return what load_state_dict restores; tensors are shared, not copied."""
        return {"num_updates": self.num_updates, "values": self.values}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Restore a saved average."""
        self.num_updates = int(state["num_updates"])  # type: ignore[call-overload]
        values = state["values"]
        assert isinstance(values, dict)
        for name, value in values.items():
            self.values[name] = value.to(self.values[name].device)


def floating_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the live floating-point tensors of the model's state by name."""
    return {
        name: value
        for name, value in model.state_dict().items()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    }
