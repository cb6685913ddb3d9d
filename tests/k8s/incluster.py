"""`extproc` in a pod whose service account is in a given folder: python -m tests.k8s.incluster FOLDER extproc's arguments.

The pod's folder has a fixed path, which a test can't write to. Everything else is what a pod does.
"""

from __future__ import annotations

import sys
from pathlib import Path

from extproc.cli import main
from extproc.kubernetes.credentials import load_credentials

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    defaults = load_credentials.__kwdefaults__
    assert defaults is not None
    assert "service_account" in defaults
    defaults["service_account"] = folder
    sys.argv[:] = ["extproc", *sys.argv[2:]]
    main()
