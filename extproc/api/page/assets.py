"""Files that browsers get as they are: read once, named by their content, kept by browsers for as long as they like."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

BASE: Final = "/ui/static"
FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}


class Asset(NamedTuple):
    """One file."""

    content: bytes
    packed: bytes
    """The same by gzip: a third of it, for browsers that take that."""
    content_type: str
    url: str
    """With a part of its hash, so that another content is another address."""


@cache
def assets() -> Mapping[str, Asset]:
    """All of them by name. Licences and the like, which no page asks for, are not among them."""
    found: dict[str, Asset] = {}
    for path in sorted(FOLDER.iterdir()):
        content_type = _TYPES.get(path.suffix)
        if content_type is not None:
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:16]
            found[path.name] = Asset(
                content, gzip.compress(content, 9, mtime=0), content_type, f"{BASE}/{path.name}?v={digest}"
            )
    return found


def url_of(name: str) -> str:
    """Where a page finds the file. Raises KeyError."""
    return assets()[name].url
