"""The detector room's error."""

from deploy.core.errors import UserError


class DetectNetError(UserError):
    """Something wrong with detector data, checkpoints or settings that a person can mend."""
