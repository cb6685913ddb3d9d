"""Where desired state is kept: `control.store.RevisionStore`. It knows nothing of what is in the documents."""
