"""What real clients do at one address, unchanged: `python -m tests.e2e.clients sdk|mlflow URL OPENAI ANTHROPIC`.

They are given Envoy's address and a token, and the addresses of two providers. A process of their own: they take seconds to
import, and warn of this and that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from tests.api.tokens import ALICE
from tests.e2e.behind import MESSAGES, MODELS, own, split


def sdk(url: str, openai: str, anthropic: str) -> None:
    """databricks-sdk, with its waiters, its queries and its OpenAI client."""
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service import serving

    client = WorkspaceClient(host=url, token=ALICE)
    api = client.serving_endpoints
    entities = [serving.ServedEntityInput(name=name, entity_name=model, entity_version="1") for name, model in MODELS.items()]

    def shares(**percentages: int) -> serving.TrafficConfig:
        routes = [serving.Route(served_model_name=name, traffic_percentage=share) for name, share in percentages.items()]
        return serving.TrafficConfig(routes=routes)

    config = serving.EndpointCoreConfigInput("sdk", served_entities=entities, traffic_config=shares(current=100, challenger=0))
    made = api.create_and_wait("sdk", config=config)
    assert made.state is not None
    assert made.state.ready == serving.EndpointStateReady.READY, made
    asked = [serving.ChatMessage("hello", serving.ChatMessageRole.USER)]
    said = api.query("sdk", messages=asked, max_tokens=4)
    assert said.served_model_name == "current", said
    assert said.choices, said
    changed = api.update_config_and_wait("sdk", traffic_config=shares(current=0, challenger=100))
    assert changed.config is not None
    assert changed.config.config_version == 2, changed
    assert api.query("sdk", messages=asked, max_tokens=4).served_model_name == "challenger"
    chat = api.get_open_ai_client().chat.completions
    answer = chat.with_raw_response.create(model="sdk", messages=[{"role": "user", "content": "hello"}], max_tokens=4)
    assert answer.headers["served-model-name"] == "challenger"
    assert answer.parse().model == "sdk"
    chunks = list(chat.create(model="sdk", messages=[{"role": "user", "content": "hello"}], max_tokens=4, stream=True))
    assert {chunk.model for chunk in chunks} == {"sdk"}, chunks
    api.delete("sdk")
    assert "sdk" not in [each.name for each in api.list()]


def mlflow(url: str, openai: str, anthropic: str) -> None:
    """mlflow.deployments: the article's endpoint over two providers, and one over own models."""
    os.environ |= {"DATABRICKS_HOST": url, "DATABRICKS_TOKEN": ALICE}
    from mlflow.deployments import get_deploy_client

    client: Any = get_deploy_client("databricks")
    providers = {
        "gpt": ("gpt-4", "openai", {"openai_api_key": "{{secrets/my/openai}}", "openai_api_base": f"http://{openai}/v1"}),
        "claude": (
            "claude-3",
            "anthropic",
            {"anthropic_api_key": "{{secrets/my/anthropic}}", "anthropic_api_base": f"http://{anthropic}"},
        ),
    }
    client.create_endpoint(
        name="mix",
        config={
            "served_entities": [
                {
                    "name": name,
                    "external_model": {
                        "name": model,
                        "provider": provider,
                        "task": "llm/v1/chat",
                        f"{provider}_config": config,
                    },
                }
                for name, (model, provider, config) in providers.items()
            ],
            "traffic_config": split(gpt="50", claude="50"),
        },
    )
    assert client.get_endpoint("mix")["task"] == "llm/v1/chat"
    models = {client.predict(endpoint="mix", inputs=MESSAGES)["model"] for _ in range(40)}
    assert models == {"mix"}, models
    client.create_endpoint(name="mlflow", config=own(current="100", challenger="0"))
    assert {"mix", "mlflow"} <= {each["name"] for each in client.list_endpoints()}
    assert client.predict(endpoint="mlflow", inputs=MESSAGES)["choices"]
    chunks = list(client.predict_stream(endpoint="mlflow", inputs=MESSAGES))
    assert [chunk["model"] for chunk in chunks] == ["mlflow"] * len(chunks), chunks
    assert len(chunks) >= 2
    changed = client.update_endpoint_config(endpoint="mlflow", config={"traffic_config": split(current="50", challenger="50")})
    assert changed["config"]["config_version"] == 2, changed
    for name in ("mix", "mlflow"):
        client.delete_endpoint(name)
        assert name not in [each["name"] for each in client.list_endpoints()]


if __name__ == "__main__":
    programs: dict[str, Callable[[str, str, str], None]] = {"sdk": sdk, "mlflow": mlflow}
    programs[sys.argv[1]](*sys.argv[2:])
