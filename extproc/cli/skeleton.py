"""The files of a new package with one plugin. docs/own-plugins.md explains them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
ROLES: Final = ("scorer", "filter")

_PROJECT: Final = """\
[project]
name = "{name}"
version = "0.1.0"
description = "A plugin for extproc's endpoint picker"
requires-python = ">=3.11"
dependencies = ["extproc"]

[project.optional-dependencies]
dev = ["pytest"]

# The entry point's name is the type's name in configs.
[project.entry-points."extproc.plugins"]
{name} = "{module}:{cls}"

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build.targets.wheel]
only-include = ["{module}.py"]
"""

_README: Final = """\
# {name}

A plugin for extproc's endpoint picker.

```console
$ pip install -e '.[dev]' && pytest
$ extproc check picker.yaml
$ extproc epp --config-file picker.yaml --endpoints 10.0.0.1:8000,10.0.0.2:8000
```
"""

_SCORER: Final = '''\
"""The plugin `{name}`."""

from __future__ import annotations

from dataclasses import dataclass

from extproc.plugin import EndpointScorer, EndpointState, Request


@dataclass(frozen=True)
class Parameters:
    """What the config may say, in camelCase."""

    most_waiting: int = 10
    """A queue this long gets no points."""

    def __post_init__(self) -> None:
        if self.most_waiting < 1:
            raise ValueError("mostWaiting: expected at least 1")


class {cls}(EndpointScorer):
    """1 − waiting / `mostWaiting`, at least 0."""

    parameters: Parameters

    def score(self, request: Request, endpoint: EndpointState) -> float:
        """Points in 0..1; more is better."""
        if endpoint.waiting is None:  # unknown is not idle
            return 0.0
        return max(0.0, 1 - endpoint.waiting / self.parameters.most_waiting)
'''

_SCORER_TEST: Final = '''\
"""Nothing here needs a picker, a proxy or a network."""

from __future__ import annotations

import pytest
from {module} import {cls}

from extproc.testing import NAN, candidates, cycle, make


def test_a_shorter_queue_gets_more_points() -> None:
    plugin = make({cls}, {{"mostWaiting": 10}})
    assert plugin.score(cycle(), candidates(waiting=[0, 5, 20])) == [1.0, 0.5, 0.0]


def test_what_is_not_known_gets_none() -> None:
    assert make({cls}).score(cycle(), candidates(waiting=[NAN])) == [0.0]


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        make({cls}, {{"mostWaiting": 0}})
'''

_FILTER: Final = '''\
"""The plugin `{name}`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from extproc.plugin import EndpointFilter, EndpointState, Request


@dataclass(frozen=True)
class Parameters:
    """What the config may say, in camelCase."""

    most_waiting: int = 10
    """Endpoints with a longer queue are left out."""

    def __post_init__(self) -> None:
        if self.most_waiting < 1:
            raise ValueError("mostWaiting: expected at least 1")


class {cls}(EndpointFilter):
    """Leaves out endpoints with more than `mostWaiting` waiting requests."""

    parameters: Parameters
    by_load: ClassVar[bool] = True
    """When nobody is left, clients are told to come back later (429)."""

    def keep(self, request: Request, endpoint: EndpointState) -> bool:
        """Whether the endpoint stays."""
        return endpoint.waiting is None or endpoint.waiting <= self.parameters.most_waiting
'''

_FILTER_TEST: Final = '''\
"""Nothing here needs a picker, a proxy or a network."""

from __future__ import annotations

import pytest
from {module} import {cls}

from extproc.testing import NAN, candidates, cycle, make


def test_long_queues_are_left_out_and_unknown_ones_stay() -> None:
    plugin = make({cls}, {{"mostWaiting": 5}})
    assert plugin.keep(cycle(), candidates(waiting=[0, 9, NAN])) == [0, 2]


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        make({cls}, {{"mostWaiting": 0}})
'''

_PICKER: Final = """\
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
  - type: queue-scorer
  - type: {name}
    parameters: {{mostWaiting: 20}}
schedulingProfiles:
  - name: default
    plugins:
      - pluginRef: {name}
      - pluginRef: queue-scorer
"""

_TEXTS: Final[Mapping[str, tuple[str, str]]] = {"scorer": (_SCORER, _SCORER_TEST), "filter": (_FILTER, _FILTER_TEST)}


def skeleton(name: str, role: str) -> dict[str, str]:
    """The files by their names. `name` matches NAME, `role` is one of ROLES."""
    module = name.replace("-", "_")
    words = {"name": name, "module": module, "cls": "".join(word.capitalize() for word in name.split("-"))}
    code, test = _TEXTS[role]
    texts = {
        "pyproject.toml": _PROJECT,
        "README.md": _README,
        f"{module}.py": code,
        f"test_{module}.py": test,
        "picker.yaml": _PICKER,
    }
    return {file: text.format(**words) for file, text in texts.items()}
