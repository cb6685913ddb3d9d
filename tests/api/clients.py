"""What real clients do with the API, unchanged: `python -m tests.api.clients sdk|mlflow PORT`.

They are given a host and a token. A process of their own: they take seconds to import, and warn of this and that.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

TOKEN = "dapi-token-of-alice"


def sdk(port: int) -> None:
    """databricks-sdk, with its waiters."""
    from databricks.sdk import WorkspaceClient, errors
    from databricks.sdk.service import serving

    client = WorkspaceClient(host=f"http://127.0.0.1:{port}", token=TOKEN)
    api = client.serving_endpoints

    def entity(name: str, model: str) -> serving.ServedEntityInput:
        return serving.ServedEntityInput(name=name, entity_name=model, entity_version="1", workload_size="Small")

    def split(**shares: int) -> serving.TrafficConfig:
        routes = [serving.Route(served_model_name=name, traffic_percentage=share) for name, share in shares.items()]
        return serving.TrafficConfig(routes=routes)

    assert list(api.list()) == []
    entities = [entity("current", "model-A"), entity("challenger", "model-B")]
    made = api.create_and_wait(
        "chat",
        config=serving.EndpointCoreConfigInput(
            "chat", served_entities=entities, traffic_config=split(current=90, challenger=10)
        ),
        tags=[serving.EndpointTag("team", "search")],
        ai_gateway=serving.AiGatewayConfig(fallback_config=serving.FallbackConfig(enabled=True)),
        description="two of them",
    )
    assert (made.name, made.creator, made.pending_config) == ("chat", "alice@example.com", None), made
    assert made.state == serving.EndpointState(serving.EndpointStateConfigUpdate.NOT_UPDATING, serving.EndpointStateReady.READY)
    assert made.permission_level == serving.ServingEndpointDetailedPermissionLevel.CAN_MANAGE
    assert made.ai_gateway.fallback_config.enabled is True
    assert [(each.name, each.entity_name, each.state.deployment.value) for each in made.config.served_entities] == [
        ("current", "model-A", "DEPLOYMENT_READY"),
        ("challenger", "model-B", "DEPLOYMENT_READY"),
    ]
    changed = api.update_config_and_wait("chat", traffic_config=split(current=50, challenger=50))
    assert [route.traffic_percentage for route in changed.config.traffic_config.routes] == [50, 50]
    assert [route.served_entity_name for route in changed.config.traffic_config.routes] == ["current", "challenger"]
    assert (changed.config.config_version, len(changed.config.served_entities)) == (2, 2)
    (listed,) = api.list()
    assert (listed.name, listed.tags) == ("chat", [serving.EndpointTag("team", "search")]), listed
    assert api.wait_get_serving_endpoint_not_updating("chat").name == "chat"

    patched = api.patch("chat", add_tags=[serving.EndpointTag("stage", "test")], delete_tags=["team"])
    assert [tag.key for tag in patched.tags] == ["stage"], patched
    limits = api.put("chat", rate_limits=[serving.RateLimit(100, serving.RateLimitRenewalPeriod.MINUTE)])
    assert limits.rate_limits[0].calls == 100, limits
    minute = serving.AiGatewayRateLimitRenewalPeriod.MINUTE
    gateway = api.put_ai_gateway("chat", rate_limits=[serving.AiGatewayRateLimit(minute, calls=5)])
    assert (gateway.rate_limits[0].calls, gateway.fallback_config) == (5, None), gateway
    mails = api.update_notifications("chat", email_notifications=serving.EmailNotifications(["a@b"], ["a@b"]))
    assert (mails.name, mails.email_notifications.on_update_failure) == ("chat", ["a@b"]), mails
    assert b"extproc_serving_requests_total" in api.export_metrics("chat").contents.read()
    assert b"/invocations" in api.get_open_api("chat").contents.read()
    assert "current" in api.logs("chat", "current").logs
    assert api.build_logs("chat", "current").logs
    rights = api.get_permissions(made.id)
    levels = {each.user_name: each.all_permissions[0].permission_level.value for each in rights.access_control_list}
    assert levels == {
        "alice@example.com": "CAN_MANAGE",
        "victor@example.com": "CAN_VIEW",
        "quentin@example.com": "CAN_QUERY",
    }
    assert len(api.get_permission_levels(made.id).permission_levels) == 3
    assert client.current_user.me().user_name == "alice@example.com"
    assert str(api.get_open_ai_client().base_url) == f"http://127.0.0.1:{port}/serving-endpoints/"

    with pytest.raises(errors.ResourceDoesNotExist):
        api.get("nothing")
    with pytest.raises(errors.ResourceAlreadyExists):
        api.create("chat", config=serving.EndpointCoreConfigInput("chat", served_entities=entities[:1]))
    with pytest.raises(errors.InvalidParameterValue, match="50 \\+ 51 = 101; expected shares that add up to 100"):
        api.update_config("chat", traffic_config=split(current=50, challenger=51))
    with pytest.raises(errors.NotImplemented):
        api.set_permissions(made.id)
    with pytest.raises(errors.Unauthenticated):
        WorkspaceClient(host=client.config.host, token="of-nobody-whatever").serving_endpoints.get("chat")
    with pytest.raises(errors.PermissionDenied):
        WorkspaceClient(host=client.config.host, token="dapi-token-of-victor").serving_endpoints.delete("chat")

    pt = api.create_provisioned_throughput_endpoint_and_wait(
        "pt-chat",
        serving.PtEndpointCoreConfig(
            served_entities=[serving.PtServedModel("model-A", provisioned_model_units=50, entity_version="1", name="only")]
        ),
    )
    assert pt.config.traffic_config.routes[0].traffic_percentage == 100, pt
    again = api.update_provisioned_throughput_endpoint_config_and_wait(
        "pt-chat",
        serving.PtEndpointCoreConfig(
            served_entities=[
                serving.PtServedModel("model-A", provisioned_model_units=50, name="a"),
                serving.PtServedModel("model-B", provisioned_model_units=50, name="b"),
            ],
            traffic_config=split(a=60, b=40),
        ),
    )
    assert [route.traffic_percentage for route in again.config.traffic_config.routes] == [60, 40]
    api.delete("pt-chat")
    api.delete("chat")
    assert list(api.list()) == []


def mlflow(port: int) -> None:
    """mlflow.deployments, as its documentation has it: percentages as text among others."""
    os.environ |= {"DATABRICKS_HOST": f"http://127.0.0.1:{port}", "DATABRICKS_TOKEN": TOKEN}
    from mlflow.deployments import get_deploy_client
    from requests import HTTPError

    client: Any = get_deploy_client("databricks")
    assert client.list_endpoints() == []

    def provider(name: str, model: str, **config: Any) -> dict[str, Any]:
        return {"name": name, "external_model": {"name": model, "task": "llm/v1/chat", **config}}

    openai = provider("gpt", "gpt-4", provider="openai", openai_config={"openai_api_key": "{{secrets/my/openai}}"})
    anthropic = provider(
        "claude", "claude-3", provider="anthropic", anthropic_config={"anthropic_api_key": "{{secrets/my/anthropic}}"}
    )
    routes = [
        {"served_model_name": "gpt", "traffic_percentage": "50"},
        {"served_model_name": "claude", "traffic_percentage": "50"},
    ]
    made = client.create_endpoint(
        name="both",
        config={
            "served_entities": [openai, anthropic],
            "traffic_config": {"routes": routes},
            "tags": [{"key": "team", "value": "search"}],
            "rate_limits": [{"calls": 10, "renewal_period": "minute"}],
        },
    )
    assert (made["name"], made["state"]["ready"], made["task"]) == ("both", "READY", "llm/v1/chat"), made
    assert [each["traffic_percentage"] for each in made["config"]["traffic_config"]["routes"]] == [50, 50]
    assert [each["name"] for each in client.list_endpoints()] == ["both"]
    assert client.get_endpoint("both")["tags"] == [{"key": "team", "value": "search"}]
    client.create_endpoint(
        name="own",
        config={
            "served_entities": [
                {"name": "a", "entity_name": "model-A", "entity_version": "1", "workload_size": "Small"},
                {"name": "b", "entity_name": "model-B", "entity_version": "1", "workload_size": "Small"},
            ],
            "traffic_config": {
                "routes": [
                    {"served_model_name": "a", "traffic_percentage": "90"},
                    {"served_model_name": "b", "traffic_percentage": "10"},
                ]
            },
        },
    )
    changed = client.update_endpoint_config(
        endpoint="own",
        config={
            "traffic_config": {
                "routes": [
                    {"served_model_name": "a", "traffic_percentage": 50},
                    {"served_model_name": "b", "traffic_percentage": 50},
                ]
            }
        },
    )
    assert (changed["config"]["config_version"], len(changed["config"]["served_entities"])) == (2, 2), changed
    tags = client.update_endpoint_tags(endpoint="own", config={"add_tags": [{"key": "x", "value": "y"}]})
    assert tags == {"tags": [{"key": "x", "value": "y"}]}, tags
    limits = client.update_endpoint_rate_limits(
        endpoint="own", config={"rate_limits": [{"key": "user", "renewal_period": "minute", "calls": 10}]}
    )
    assert limits["rate_limits"][0]["calls"] == 10, limits
    gateway = client.update_endpoint_ai_gateway(endpoint="own", config={"usage_tracking_config": {"enabled": True}})
    assert gateway == {"usage_tracking_config": {"enabled": True}}, gateway
    with pytest.raises(HTTPError, match="'nothing' does not exist") as failed:
        client.get_endpoint("nothing")
    assert failed.value.response is not None
    assert failed.value.response.status_code == 404
    client.delete_endpoint("own")
    client.delete_endpoint("both")
    assert client.list_endpoints() == []


if __name__ == "__main__":
    {"sdk": sdk, "mlflow": mlflow}[sys.argv[1]](int(sys.argv[2]))
