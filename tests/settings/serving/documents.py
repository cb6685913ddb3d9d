"""Endpoints as people write them."""

from __future__ import annotations

from typing import Any

KEY = "sk-do-not-show-me-1234567890"


def own(name: str = "chat", **shares: int) -> dict[str, Any]:
    """An endpoint over own models; the article's example with 90 and 10 without words."""
    shares = shares or {"current": 90, "challenger": 10}
    entities = [{"name": each, "entity_name": f"model-{each}", "entity_version": "1"} for each in shares]
    routes = [{"served_model_name": each, "traffic_percentage": share} for each, share in shares.items()]
    return {"name": name, "config": {"served_entities": entities, "traffic_config": {"routes": routes}}}


def openai(name: str = "gpt", model: str = "gpt-4o", task: str = "llm/v1/chat", **config: Any) -> dict[str, Any]:
    """A served entity of OpenAI's."""
    settings = config or {"openai_api_key": "{{secrets/openai/key}}"}
    external = {"name": model, "provider": "openai", "task": task, "openai_config": settings}
    return {"name": name, "external_model": external}


def external(*entities: dict[str, Any], name: str = "proxy") -> dict[str, Any]:
    """An endpoint over providers, all to the first entity."""
    routes = [{"served_entity_name": each["name"], "traffic_percentage": 100 * (not i)} for i, each in enumerate(entities)]
    return {"name": name, "config": {"served_entities": list(entities), "traffic_config": {"routes": routes}}}
