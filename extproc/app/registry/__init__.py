"""An MLflow registry beside a gateway: it is asked, what it says is remembered, and serving endpoints follow."""

from extproc.app.registry.component import FollowedRegistry
from extproc.app.registry.follower import Follower
from extproc.app.registry.make import planned_registry

__all__ = ["FollowedRegistry", "Follower", "planned_registry"]
