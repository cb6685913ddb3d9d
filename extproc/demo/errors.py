"""What can go wrong with the demo itself."""


class DemoError(Exception):
    """A part did not start or stopped by itself; the text says which, and ends with its log."""
