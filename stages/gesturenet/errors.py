"""Failures of the gesture room that a person can mend."""

from deploy.core.errors import UserError


class GestureError(UserError):
    """The gesture data, model or configuration cannot be used; the message says what to do."""
