"""Listening."""


class BindError(OSError):
    """A place to listen at could not be taken."""
