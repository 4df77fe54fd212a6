"""Errors of the TAO backend that a person can mend."""

from deploy.core.errors import UserError


class TaoError(UserError):
    """A setting, a missing program or a failed container of the TAO backend."""
