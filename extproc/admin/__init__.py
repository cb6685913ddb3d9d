"""HTTP for people and machines: metrics, health, and looking inside."""

from extproc.admin.server import AdminServer, Inside, ShadowShapes

__all__ = ["AdminServer", "Inside", "ShadowShapes"]
