"""A pod of the chart standalone is told to go while it answers: nothing is cut, and clients with connections learn of it."""

from __future__ import annotations

import contextlib
import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e.parts import JSON, until
from tests.k8s.cluster import Cluster
from tests.k8s.kubelet import Pod
from tests.k8s.releases import Helm
from tests.k8s.servers import simulators

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
TOKENS = 300
"""An answer of about three seconds at 10 ms a step."""


def _begin(connection: http.client.HTTPConnection, tokens: int) -> http.client.HTTPResponse:
    body = {"model": MODEL, "max_tokens": tokens, "ignore_eos": True, "stream": True, "prompt": "hello"}
    connection.request("POST", "/v1/completions", json.dumps(body), JSON)
    return connection.getresponse()


def test_an_answer_outlives_the_order_to_stop(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    with simulators(tmp_path, ["127.0.0.21"], ["--model", MODEL, "--decode-step", "10ms"]) as (endpoint,):
        values = {
            "gateway": {"pools": [{"name": "llama", "models": [MODEL], "static": [endpoint]}]},
            "inferenceExtension": {"shutdownDelaySeconds": 1, "drainTimeoutSeconds": 20},
        }
        Helm(cluster, namespace, tmp_path).install("one", "standalone", values)
        deployment = cluster.admin.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/one-epp")
        pod = Pod(cluster, deployment, tmp_path)
        pod.start()
        pod.wait_ready()
        where = urlsplit(f"http://{pod.address}:{pod.port(8081)}").netloc
        with (
            contextlib.closing(http.client.HTTPConnection(where, timeout=30)) as long,
            contextlib.closing(http.client.HTTPConnection(where, timeout=30)) as kept,
            ThreadPoolExecutor(1) as other,
        ):
            assert _begin(kept, 2).read().endswith(b"[DONE]\n\n")
            answer = _begin(long, TOKENS)
            assert answer.readline().startswith(b"data: ")
            stopped = other.submit(pod.stop)
            until(lambda: pod.probe("envoy", "readinessProbe") != "", within_s=5, what="Envoy knows that the pod goes")
            last = _begin(kept, 2)  # within the delay, on a connection that was there before
            assert last.status == 200
            assert last.getheader("connection") == "close", "the client would come back to a pod that goes"
            assert last.read().endswith(b"[DONE]\n\n")
            assert not stopped.done(), "there was nothing to wait for"
            assert answer.read().endswith(b"[DONE]\n\n"), "cut"
            codes = stopped.result(timeout=30)
        assert codes["gateway"] == 0
