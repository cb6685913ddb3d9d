"""HTTP for people and machines: metrics, health, and looking inside."""

from extproc.admin.server import AdminServer, Inside, RegistryShape, ShadowShapes

__all__ = ["AdminServer", "Inside", "RegistryShape", "ShadowShapes"]
