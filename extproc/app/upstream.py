"""What flags of upstream's say about engines' pages, put where the config would say it."""

from __future__ import annotations

from collections.abc import Mapping

from extproc.scraping.engines import BUILT_IN
from extproc.settings.picker import EndpointPickerConfig, PluginSpec
from extproc.settings.upstream import plugins_for


def with_parameters(
    config: EndpointPickerConfig, parameters: Mapping[str, Mapping[str, str]]
) -> tuple[EndpointPickerConfig, list[str]]:
    """The config with a plugin for what the flags said; and warnings, for a plugin that the config has goes before flags."""
    vllm = next(engine for engine in BUILT_IN if engine.name == "vllm")
    plugins = list(config.plugins)
    warnings = []
    for entry in plugins_for(parameters, vllm):
        if any(spec.type == entry["type"] for spec in config.plugins):
            warnings.append(f"plugins: {entry['type']} is in the config, so the flags that set its parameters have no effect")
        else:
            plugins.append(PluginSpec.model_validate(entry))
    return config.model_copy(update={"plugins": plugins}), warnings
