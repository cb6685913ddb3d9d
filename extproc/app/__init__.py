"""The composition root: settings become running parts, in one TaskGroup, until a signal says stop."""

from extproc.app.build import build
from extproc.app.component import Component
from extproc.app.deployment import STAGES, MakeStage, Parts
from extproc.app.servers import Ports, PortsTaken
from extproc.app.service import Service, serve

__all__ = ["STAGES", "Component", "MakeStage", "Parts", "Ports", "PortsTaken", "Service", "build", "serve"]
