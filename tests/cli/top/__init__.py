"""`extproc top`."""
