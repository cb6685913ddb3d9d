"""Where secrets come from: mounted folders, the environment, Secrets of Kubernetes; and what is known of them now.

Knows references and values, nothing of requests or of what a secret opens. What is read shows itself nowhere
(`credentials.Secret`), and messages name references and places, never values.
"""

from extproc.secrets.cluster import ClusterSource
from extproc.secrets.environment import EnvironmentSource
from extproc.secrets.folder import FolderSource
from extproc.secrets.source import Found, Source, Unreadable
from extproc.secrets.store import SecretStore

__all__ = ["ClusterSource", "EnvironmentSource", "FolderSource", "Found", "SecretStore", "Source", "Unreadable"]
