"""The composition root: settings become running parts, in one TaskGroup, until a signal says stop."""

from extproc.app.build import build_bbr, build_epp, build_gateway
from extproc.app.service import Ports, PortsTaken, Service, serve

__all__ = ["Ports", "PortsTaken", "Service", "build_bbr", "build_epp", "build_gateway", "serve"]
