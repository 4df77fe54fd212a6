"""The data room's error."""

from deploy.core.errors import UserError


class DatasetError(UserError):
    """Something wrong with a data set, a download or a split that a person can mend."""
