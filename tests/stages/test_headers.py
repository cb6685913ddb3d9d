"""The stage that names the model and its base in headers."""

from __future__ import annotations

import pytest

from extproc.domain import InferenceRequest
from extproc.live import LiveWriter
from extproc.settings.router import FieldRule, HeaderRules
from extproc.stages import ModelHeaders
from extproc.traffic import AdapterMap
from tests.fakes.deployment import Deployment, request
from tests.fakes.events import head
from tests.stages.running import counts, explained, run


class TestModelHeaders:
    ADAPTERS = AdapterMap({"base": ["lora"]})

    @pytest.mark.parametrize(
        ("model", "base"), [("lora", "base"), ("base", "base"), ("unknown", ""), (" lora ", "base"), ("été", "")]
    )
    def test_the_model_and_its_base(self, deployment: Deployment, model: str, base: str) -> None:
        draft, reply = run(deployment.headers(self.ADAPTERS), request(model))
        assert reply is None
        assert draft.set_headers == (("X-Gateway-Model-Name", model), ("X-Gateway-Base-Model-Name", base))
        assert draft.remove_headers == ()

    def test_a_clients_own_headers_are_replaced(self, deployment: Deployment) -> None:
        spoofed = head(x_gateway_model_name="other", x_gateway_base_model_name="other")
        draft, _ = run(deployment.headers(), request("m", head=spoofed))
        assert dict(draft.set_headers) == {"X-Gateway-Model-Name": "m", "X-Gateway-Base-Model-Name": ""}

    def test_without_a_model_they_are_removed(self, deployment: Deployment) -> None:
        spoofed = head(x_gateway_model_name="other", x_gateway_base_model_name="other")
        draft, _ = run(deployment.headers(), request(None, head=spoofed))
        assert draft.set_headers == ()
        assert draft.remove_headers == ("x-gateway-model-name", "x-gateway-base-model-name")

    def test_nothing_is_removed_that_is_not_there(self, deployment: Deployment) -> None:
        draft, _ = run(deployment.headers(), request(None))
        assert draft.remove_headers == ()

    @pytest.mark.parametrize(
        ("what", "expected"),
        [
            (request("m"), {"bbr_success_total": 1, 'bbr_model_requests_total{model="m"}': 1}),
            (request(None, empty_model=True), {'bbr_body_field_empty_total{field="model"}': 1}),
            (request(None), {'bbr_body_field_not_found_total{field="model"}': 1, "bbr_model_not_in_body_total": 1}),
        ],
    )
    def test_counts(self, deployment: Deployment, what: InferenceRequest, expected: dict[str, float]) -> None:
        run(deployment.headers(), what)
        assert counts(deployment, "bbr") == expected

    def test_only_what_plugins_name_and_nobody_elses(self, deployment: Deployment) -> None:
        rules = HeaderRules(
            (FieldRule("model", "X-Model"), FieldRule("user", "X-User"), FieldRule("n", "X-N")), base_model=False
        )
        spoofed = head(x_user="other", x_n="1", x_gateway_base_model_name="other")
        body: dict[str, object] = {"model": "m", "user": "u", "n": {}}
        draft, _ = run(deployment.headers(self.ADAPTERS, rules), request("m", head=spoofed, payload=body))
        assert draft.set_headers == (("X-Model", "m"), ("X-User", "u"))
        assert draft.remove_headers == ("x-gateway-base-model-name", "x-n")

    def test_new_adapters_count_at_once(self, deployment: Deployment) -> None:
        adapters = LiveWriter(AdapterMap())
        stage = ModelHeaders(deployment.router_metrics, adapters.live)
        adapters.replace(self.ADAPTERS)
        draft, _ = run(stage, request("lora"))
        assert dict(draft.set_headers)["X-Gateway-Base-Model-Name"] == "base"

    def test_explained_it_does_the_same_and_counts_nothing(self, deployment: Deployment) -> None:
        stage = deployment.headers(self.ADAPTERS)
        told = explained(stage, request("lora"))
        assert told == {
            "model": "lora",
            "headers": {"X-Gateway-Model-Name": "lora", "X-Gateway-Base-Model-Name": "base"},
            "removed": [],
        }
        assert counts(deployment, "bbr") == {}
