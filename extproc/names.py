"""Names on the wire, each with its source.

BBR: body-based router of the Gateway API inference extension (v1.0 to v1.5).
004: the extension's proposal 004, "endpoint picker protocol", v1.0.0.
Envoy lower-cases header names, so a name that is looked up is lower case here; a name that is set is spelled as upstream
spells it.
"""

from __future__ import annotations

from typing import Final

# Set by the router stage (BBR).
MODEL_HEADER: Final = "X-Gateway-Model-Name"
BASE_MODEL_HEADER: Final = "X-Gateway-Base-Model-Name"

# Set by the picker stage, as header and as dynamic metadata of the same key (004).
DESTINATION_HEADER: Final = "x-gateway-destination-endpoint"
LB_NAMESPACE: Final = "envoy.lb"
# Only metadata: every candidate's points (llm-d router v0.10, --emit-endpoint-scores).
SCORES_KEY: Final = "x-gateway-destination-endpoint-scores"

# Told to the picker stage by the proxy (004).
SUBSET_NAMESPACE: Final = "envoy.lb.subset_hint"
SUBSET_KEY: Final = "x-gateway-destination-endpoint-subset"
SERVED_KEY: Final = "x-gateway-destination-endpoint-served"

# Ours, for the two listeners of envoy/serving-endpoints.yaml. Which attempt at a request this is comes as metadata, which no
# client can write: 0 where it can be handed over to the listener of attempts, and in that one their number, from 1.
ATTEMPT_NAMESPACE: Final = "extproc.attempt"
ATTEMPT_KEY: Final = "number"
# On a request: what Envoy drew for it, the same in each of its attempts. Believed of attempts only.
REGION_HEADER: Final = "x-gateway-region"
"""Of a request: where it comes from, as the proxy in front says."""
DRAW_HEADER: Final = "x-extproc-draw"
# On a request: which of Envoy's routes it takes, chosen anew when we have decided.
ROUTE_HEADER: Final = "x-extproc-route"
ROUTE_ATTEMPTS: Final = "attempts"
ROUTE_EXTERNAL: Final = "external"
ROUTE_EXTERNAL_PLAIN: Final = "external-plain"
# Metadata of LB_NAMESPACE: the address, `ip:port`, of an external provider.
EXTERNAL_KEY: Final = "x-extproc-external-address"
# Metadata of LB_NAMESPACE: "1" when another entity is left, so that an answer of Envoy's own says so too.
FALLS_BACK_KEY: Final = "x-extproc-falls-back"
# On an answer: this attempt failed, and another entity is left. Envoy makes the next attempt, or removes the header.
NEXT_ENTITY_HEADER: Final = "x-extproc-next-entity"

# On a request, of a client: how good earlier answers were (`request/feedback.py`). Taken off before it goes on.
FEEDBACK_HEADER: Final = "x-extproc-feedback"
# Ours, on a copy of a request: whose shadow it is for, `endpoint/entity`.
SHADOW_HEADER: Final = "x-extproc-shadow"

# Of the inference extension's conformance tests: who may be picked, and what is to say who answered (its pkg/lwepp).
TEST_SELECTION_HEADER: Final = "test-epp-endpoint-selection"
TEST_SERVED_HEADER: Final = "x-conformance-test-served-endpoint"

# On answers of our own (llm-d router; clients key their retries on it).
DROPPED_REASON_HEADER: Final = "x-llm-d-request-dropped-reason"

# A marker on every answer that went through the picker's response phase (GIE endpoint picker).
RESPONSE_MARKER_HEADER: Final = "x-went-into-resp-headers"

REQUEST_ID_HEADER: Final = "x-request-id"

# What only the router stage may say; a client's own copy is replaced or removed.
ROUTER_OWNED: Final = (MODEL_HEADER.lower(), BASE_MODEL_HEADER.lower())

# What only the picker stage may say. The disaggregation headers name hosts that a model server's side-car connects to, so a
# client's copy is a server-side request forgery (llm-d router issue 242).
PREFILLER_HEADER: Final = "x-prefiller-host-port"
ENCODERS_HEADER: Final = "x-encoder-hosts-ports"
DATA_PARALLEL_HEADER: Final = "x-data-parallel-host-port"
KV_SOURCE_HEADER: Final = "x-kv-cache-source-host-port"
PICKER_OWNED: Final = (
    DESTINATION_HEADER,
    SUBSET_KEY,
    SERVED_KEY,
    PREFILLER_HEADER,
    ENCODERS_HEADER,
    DATA_PARALLEL_HEADER,
    KV_SOURCE_HEADER,
)

# What clients, or a router before us, tell the picker stage (llm-d router): the name it has now, and the older one.
OBJECTIVE_HEADERS: Final = ("x-llm-d-inference-objective", "x-gateway-inference-objective")
REWRITE_HEADERS: Final = ("x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite")
FAIRNESS_HEADERS: Final = ("x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id")
SLO_TTFT_HEADERS: Final = ("x-llm-d-slo-ttft-ms", "x-slo-ttft-ms")
SLO_TPOT_HEADERS: Final = ("x-llm-d-slo-tpot-ms", "x-slo-tpot-ms")

# Where a model server takes bodies of any shape (SageMaker's containers, MLflow's), and the end of the paths at which a
# serving endpoint does.
INVOCATIONS: Final = "/invocations"

# gRPC services.
EXT_PROC_SERVICE: Final = "envoy.service.ext_proc.v3.ExternalProcessor"
EXT_PROC_METHOD: Final = f"/{EXT_PROC_SERVICE}/Process"
