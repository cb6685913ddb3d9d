"""Seeing inside: metrics, logs, and the last decisions."""
