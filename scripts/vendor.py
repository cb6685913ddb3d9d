"""Fetch the page's vendored files from npm again, or check that they are what this table says (`--check`).

A version is changed here, and nowhere else: name, version, npm's own hash of the package (`npm view NAME@VERSION
dist.integrity`), and each file that is taken, with its SHA-256 and what it is called in extproc/api/page/static. Needs npm, but
for `--check`.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

STATIC = Path(__file__).resolve().parent.parent / "extproc/api/page/static"


class Taken(NamedTuple):
    """One file of a package."""

    path: str
    sha256: str


class Package(NamedTuple):
    """One package of npm."""

    name: str
    version: str
    integrity: str
    files: Mapping[str, Taken]
    """By the name that they have here."""


PACKAGES = (
    Package(
        "htmx.org",
        "2.0.11",
        "sha512-Thx/WtpeOQqSrqBCw/A1cwGJGg4UrVa3+sW0GmrM3p4gJgO89ecH4qtbnyzDDWFvBTqjnIMCgELTNt636dtamA==",
        {
            "htmx.min.js": Taken("dist/htmx.min.js", "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"),
            "htmx.LICENSE.txt": Taken("LICENSE", "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38"),
        },
    ),
    Package(
        "uplot",
        "1.6.32",
        "sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        {
            "uplot.min.js": Taken("dist/uPlot.iife.min.js", "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"),
            "uplot.min.css": Taken("dist/uPlot.min.css", "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"),
            "uplot.LICENSE.txt": Taken("LICENSE", "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd"),
        },
    ),
)
OURS = ("icon.svg", "page.css", "page.js", "plot.js")
"""What stands beside them and is ours."""


def problems(folder: Path = STATIC) -> list[str]:
    """What is not as the table says."""
    expected = {name: taken.sha256 for package in PACKAGES for name, taken in package.files.items()}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    told = [f"{name}: is missing" for name in sorted(expected.keys() - found.keys())]
    told += [f"{name}: nobody knows where it is from" for name in sorted(found.keys() - expected.keys() - set(OURS))]
    told += [
        f"{name}: sha256 is {found[name]}; expected {sha256}"
        for name, sha256 in expected.items()
        if found.get(name, sha256) != sha256
    ]
    return told


def vendor(package: Package) -> None:
    """Fetch the package and take its files. Raises SystemExit when it is another one than the table says."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
        name = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1]
        data = (Path(folder) / name).read_bytes()
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
        if integrity != package.integrity:
            which = f"{package.name}@{package.version}"
            raise SystemExit(f"scripts/vendor.py: {which} is {integrity}; expected {package.integrity}")
        with tarfile.open(Path(folder) / name) as archive:
            for to, taken in package.files.items():
                member = archive.extractfile(f"package/{taken.path}")
                assert member is not None, f"{taken.path} is no file"
                (STATIC / to).write_bytes(member.read())


def main() -> int:
    """As the module says."""
    words, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="scripts/vendor.py", description=words, epilog=more)
    parser.add_argument("--check", action="store_true", help="fetch nothing, and fail when a file is another one")
    if not parser.parse_args().check:
        for package in PACKAGES:
            vendor(package)
    told = problems()
    for line in told:
        print(f"extproc/api/page/static/{line}", file=sys.stderr)
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
