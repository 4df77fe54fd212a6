"""Errors that a person can mend; runnable modules turn them into one line and exit status 1."""


class UserError(Exception):
    """Base of every expected failure.

    The message is one line: what was wrong, the value seen, what was expected, the next step.
    """


class DeployError(UserError):
    """An expected failure of deploy/: a model folder, a label file, a source or a runtime."""
