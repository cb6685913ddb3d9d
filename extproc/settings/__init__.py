"""Typed settings: what can be configured, its unit, default and meaning, written once. No I/O happens here."""
