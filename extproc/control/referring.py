"""What the documents of a change refer to in a registry, before anybody has read them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from extproc.control.changes import Create, Declare, DeskChange, UpdateConfig
from extproc.registry.references import BadReference, Reference, of_entity, of_plain

MOST_ASKED: Final = 100
"""References of one change that are asked for before it is made; the others are when the registry is asked next."""


def references_in(change: DeskChange) -> set[Reference]:
    """What the documents of a change refer to, as far as they can be read."""
    documents: Iterable[object] = ()
    if isinstance(change, Declare):
        documents = change.documents
    elif isinstance(change, Create | UpdateConfig):
        documents = (change.document,)
    found: set[Reference] = set()
    for document in documents:
        config = document.get("config", document) if isinstance(document, dict) else None
        for listed_as, fields in (
            ("served_entities", ("entity_name", "entity_version")),
            ("served_models", ("model_name", "model_version")),
        ):
            listed = config.get(listed_as) if isinstance(config, dict) else None
            for entity in listed if isinstance(listed, list) else ():
                if isinstance(entity, dict) and len(found) < MOST_ASKED:
                    name, version = (str(entity.get(field) or "") for field in fields)
                    try:
                        reference = of_entity(name, version) or of_plain(name, version)
                    except BadReference:
                        continue  # whoever reads the document says so
                    found |= {reference} if reference is not None else set()
    return found
