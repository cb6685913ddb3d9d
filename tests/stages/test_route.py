"""The stage that leads a model to its pool, and lists the models."""

from __future__ import annotations

import orjson
import pytest

from extproc.domain import Reply, RequestHead
from extproc.errors import MissingModel, UnknownModel, UnreadableBody
from extproc.live import Live
from extproc.stages import Enough, Pending, RouteToPool
from extproc.traffic import AdapterMap, Catalog, EndpointSpec, EntitySpec, Route, RouteTable, ServingEndpoint, TrafficTable
from tests.fakes.deployment import Deployment, request
from tests.fakes.events import head
from tests.stages.running import explained, run


class TestRouteToPool:
    def test_by_model(self, deployment: Deployment) -> None:
        stage = deployment.routes(one=["a", "b"], two=["c"])
        assert [run(stage, request(model))[0].pool for model in "abc"] == ["one", "one", "two"]

    def test_unknown_models_are_404(self, deployment: Deployment) -> None:
        with pytest.raises(UnknownModel, match=r"The model `x` does not exist\. Available models: a, b"):
            run(deployment.routes(one=["a"], two=["b"]), request("x"))

    def test_an_adapter_goes_where_its_base_model_is(self, deployment: Deployment) -> None:
        adapters = AdapterMap({"a": ["sql", "chat"], "c": ["own"], "elsewhere": ["far"]})
        stage = deployment.routes(adapters, one=["a"], two=["c"], three=["own"])
        served = [("sql", "one"), ("chat", "one"), ("own", "three"), ("a", "one")]
        assert [run(stage, request(model))[0].pool for model, _ in served] == [pool for _, pool in served]
        for model in ("far", "elsewhere", "x"):
            with pytest.raises(UnknownModel):
                run(stage, request(model))

    def test_no_model_goes_to_the_only_pool(self, deployment: Deployment) -> None:
        draft, _ = run(deployment.routes(one=["a", "b"]), request(None))
        assert draft.pool == "one"

    def test_no_model_and_a_choice_of_pools_is_400(self, deployment: Deployment) -> None:
        with pytest.raises(MissingModel, match="names no model; name one of: a, b") as caught:
            run(deployment.routes(one=["a"], two=["b"]), request(None))
        assert caught.value.param == "model"

    @pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
    @pytest.mark.parametrize("path", ["/health", "/v1/chat/completions", "/v1/files/1", "/v1/threads/t/messages", "/x"])
    def test_what_changes_nothing_goes_to_the_first_pool(self, deployment: Deployment, method: bytes, path: str) -> None:
        """A health check, a browser's preflight before a POST: any pool can answer."""
        of = RequestHead({":method": method, ":path": path.encode()})
        draft, reply = run(deployment.routes(one=["a"], two=["b"]), request(None, head=of, body_bytes=0))
        assert (draft.pool, reply) == ("one", None)

    @pytest.mark.parametrize("path", ["/mcp", "/upload", "/v1/threads/t/messages", "/v1/audio/voices"])
    def test_what_needs_no_model_goes_to_the_default_pool(self, deployment: Deployment, path: str) -> None:
        without_model = request(None, head=head(path), unread="not JSON")
        with pytest.raises(MissingModel):
            run(deployment.routes(one=["a"], two=["b"]), without_model)
        table = RouteTable([Route(("a",), "one"), Route(("b",), "two")], "two")
        assert run(RouteToPool(Live(table), 0), without_model)[0].pool == "two"
        with pytest.raises(MissingModel):
            run(RouteToPool(Live(table), 0), request(None))

    @pytest.mark.parametrize("path", ["/mcp", "/upload"])
    def test_the_only_pool_takes_what_nobody_can_read(self, deployment: Deployment, path: str) -> None:
        draft, _ = run(deployment.routes(one=["a"]), request(None, head=head(path), unread="not JSON"))
        assert draft.pool == "one"

    def test_an_upgrade_has_to_say_its_model_where_there_is_a_choice(self, deployment: Deployment) -> None:
        of = RequestHead({":method": b"GET", ":path": b"/v1/realtime", "upgrade": b"websocket", "connection": b"Upgrade"})
        with pytest.raises(MissingModel):
            run(deployment.routes(one=["a"], two=["b"]), request(None, head=of, body_bytes=0))
        assert run(deployment.routes(one=["a"]), request(None, head=of, body_bytes=0))[0].pool == "one"

    def test_a_body_that_was_not_read_is_never_guessed(self, deployment: Deployment) -> None:
        """It may name a model that is served nowhere."""
        with pytest.raises(MissingModel, match="names no model \\(not JSON\\)"):
            run(deployment.routes(one=["a"]), request(None, unread="not JSON"))

    def test_a_body_that_is_encoded_is_415(self, deployment: Deployment) -> None:
        with pytest.raises(UnreadableBody, match="content-encoding compress; send it without, or as gzip"):
            run(deployment.routes(one=["a"]), request(None, unread="content-encoding compress"))

    @pytest.mark.parametrize(("model", "pool"), [("a", "one"), (None, "one")])
    def test_explain(self, deployment: Deployment, model: str | None, pool: str) -> None:
        assert explained(deployment.routes(one=["a"]), request(model)) == {"pool": pool}
        with pytest.raises(UnknownModel):
            explained(deployment.routes(one=["a"]), request("x"))


class TestListOfModels:
    MODELS = ("meta-llama/Llama-3.1-8B-Instruct", "phi")

    def get(self, deployment: Deployment, path: str, method: bytes = b"GET", model: str | None = None) -> Reply | None:
        stage = deployment.routes(one=[self.MODELS[0]], two=[self.MODELS[1]])
        of = RequestHead({":method": method, ":path": path.encode()})
        reply = run(stage, request(model, head=of, body_bytes=0))[1]
        assert not isinstance(reply, Pending | Enough)
        return reply

    @pytest.mark.parametrize("method", [b"GET", b"HEAD"])
    @pytest.mark.parametrize("path", ["/v1/models", "/v1/models/", "/models", "/openai/v1/models"])
    def test_all_pools_models(self, deployment: Deployment, path: str, method: bytes) -> None:
        reply = self.get(deployment, path, method)
        assert reply is not None
        assert (reply.status, reply.content_type) == (200, "application/json")
        assert orjson.loads(reply.body) == {
            "object": "list",
            "data": [
                {"id": model, "object": "model", "created": 1_700_000_000, "owned_by": "extproc"} for model in self.MODELS
            ],
        }

    @pytest.mark.parametrize(
        "path",
        [
            "/v1/models/meta-llama/Llama-3.1-8B-Instruct",
            "/v1/models/meta-llama%2FLlama-3.1-8B-Instruct",
            "/v1/models/meta-llama/Llama-3.1-8B-Instruct/",
        ],
    )
    def test_one_model(self, deployment: Deployment, path: str) -> None:
        reply = self.get(deployment, path)
        assert reply is not None
        assert orjson.loads(reply.body)["id"] == self.MODELS[0]

    def test_adapters_of_routed_models_are_listed_with_their_parent(self, deployment: Deployment) -> None:
        adapters = AdapterMap({"phi": ["sql", "phi-chat"], "elsewhere": ["far"]})
        stage = deployment.routes(adapters, one=["phi", "phi-chat"])

        def get(path: str) -> object:
            reply = run(stage, request(None, head=RequestHead({":method": b"GET", ":path": path.encode()}), body_bytes=0))[1]
            assert isinstance(reply, Reply)
            return orjson.loads(reply.body)

        card = {"id": "sql", "object": "model", "created": 1_700_000_000, "owned_by": "extproc", "root": "sql", "parent": "phi"}
        listing = get("/v1/models")
        assert isinstance(listing, dict)
        assert [each["id"] for each in listing["data"]] == ["phi", "phi-chat", "sql"]
        assert listing["data"][2] == get("/v1/models/sql") == card
        with pytest.raises(UnknownModel):
            get("/v1/models/far")

    def test_one_that_is_not_there(self, deployment: Deployment) -> None:
        with pytest.raises(UnknownModel, match="`other` does not exist"):
            self.get(deployment, "/v1/models/other")

    @pytest.mark.parametrize("path", ["/v1/modelsx", "/v2/models/phi/ready", "/v1/models/phi/metadata"])
    def test_pages_about_models_that_are_others(self, deployment: Deployment, path: str) -> None:
        model = None if path == "/v1/modelsx" else "phi"
        assert self.get(deployment, path, model=model) is None

    def test_a_model_whose_name_ends_as_a_page_does(self, deployment: Deployment) -> None:
        stage = deployment.routes(one=["org/metadata"])
        of = RequestHead({":method": b"GET", ":path": b"/v1/models/org/metadata"})
        reply = run(stage, request("org", head=of, body_bytes=0))[1]
        assert isinstance(reply, Reply)
        assert orjson.loads(reply.body)["id"] == "org/metadata"

    def test_only_get_without_a_model_is_answered(self, deployment: Deployment) -> None:
        assert self.get(deployment, "/v1/models", b"POST", "phi") is None
        assert self.get(deployment, "/v1/models/phi:predict", b"GET", "phi") is None


def test_serving_endpoints_are_models_too() -> None:
    routes = RouteTable([Route(("model-a", "chat"), "one")])
    endpoint = ServingEndpoint(EndpointSpec("chat", (EntitySpec("a", "model-a"),), (100,)), Catalog(routes=routes))
    stage = RouteToPool(Live(routes), 1_700_000_000, serving=Live(TrafficTable([endpoint])))
    for path in ("/v1/models", "/serving-endpoints/models"):
        _, answer = run(stage, request(None, head=RequestHead({":method": b"GET", ":path": path.encode()})))
        assert isinstance(answer, Reply)
        assert [card["id"] for card in orjson.loads(answer.body)["data"]] == ["chat", "model-a"], "each name once"
    _, answer = run(stage, request(None, head=RequestHead({":method": b"GET", ":path": b"/v1/models/chat"})))
    assert isinstance(answer, Reply)
    assert orjson.loads(answer.body)["id"] == "chat"
