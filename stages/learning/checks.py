"""Checks of configured values, with one sentence for all of them."""

from collections.abc import Sequence

# Lightning Fabric's words, and "auto": what the machine computes natively.
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


def require_choice(name: str, value: object, known: Sequence[object]) -> None:
    """Raise ValueError, naming the known choices, when value is not one of them."""
    if value not in known:
        choices = ", ".join(str(choice) for choice in known)
        raise ValueError(f"{name} is {value!r}; known choices: {choices}")


def require_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError when value is outside [low, high] or not a number."""
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; expected {low} to {high}")
