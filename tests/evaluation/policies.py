"""Who chooses: Envoy's round robin, and pickers with these configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import yaml

from extproc.scheduling import Blueprint, build_scheduler
from extproc.settings.base import SettingsError
from extproc.settings.picker import DEFAULT_PICKER, load_picker_config


class Policy(NamedTuple):
    """`config` is an EndpointPickerConfig; '' is round robin, and nobody is asked."""

    name: str
    config: str = ""
    obeyed: bool = True
    """False: the picker is asked of each request, and the request goes to each server in turn all the same."""

    def problem(self) -> str:
        """Why its config does not load, '' when it does."""
        try:
            self.blueprint()
        except SettingsError as error:
            return "; ".join(error.problems)
        return ""

    def blueprint(self) -> Blueprint:
        """Raises SettingsError."""
        config, _ = load_picker_config(self.config)
        return build_scheduler(config)


def _weighing(names: Mapping[str, float]) -> str:
    plugins = "\n".join(f"- type: {name}" for name in names)
    entries = "\n".join(f"  - {{pluginRef: {name}, weight: {weight}}}" for name, weight in names.items())
    return f"""\
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
{plugins}
schedulingProfiles:
- name: default
  plugins:
{entries}
"""


ROUND_ROBIN: Final = Policy("round robin")
LOAD: Final = Policy("load alone", _weighing({"queue-scorer": 2, "kv-cache-utilization-scorer": 2}))
"""The default of ours before there was a prefix cache."""
UPSTREAMS: Final = Policy(
    "upstream's default", _weighing({"queue-scorer": 2, "kv-cache-utilization-scorer": 2, "prefix-cache-scorer": 3})
)
DEFAULT: Final = Policy("our default", yaml.safe_dump(DEFAULT_PICKER.model_dump(by_alias=True, exclude_unset=True)))
"""What a picker without a config does."""
ASKED: Final = Policy("round robin, asked", DEFAULT.config, obeyed=False)
"""What choosing is worth alone: a request takes the same way as with our default, which is a few ms on a busy machine."""
POLICIES: Final = (ROUND_ROBIN, ASKED, LOAD, UPSTREAMS, DEFAULT)
