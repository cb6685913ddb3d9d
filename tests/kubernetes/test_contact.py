"""What people hear of the API server: one line when it goes, one when it is back, one for each thing that it refuses."""

from __future__ import annotations

from structlog.testing import capture_logs

from extproc.kubernetes.contact import ApiContact
from extproc.kubernetes.errors import ApiError, ApiUnreachable
from extproc.kubernetes.reflector import Resource
from extproc.observability.instruments import Instruments
from tests.fakes.clock import FakeClock
from tests.fakes.page import counted, read_page

PODS = Resource("pods", namespace="models")
POOLS = Resource("inferencepools", "inference.networking.k8s.io", namespace="models")


def test_an_outage_is_two_lines_however_much_is_watched() -> None:
    clock = FakeClock()
    instruments = Instruments()
    contact = ApiContact(instruments, clock=clock)
    pods, pools = contact.watched(PODS, name="p"), contact.watched(POOLS, name="p")
    with capture_logs() as logs:
        for _ in range(3):
            pods.failed("watch", ApiUnreachable("connection refused"), cut=False)
            pools.failed("watch", ApiUnreachable("connection refused"), cut=False)
        clock.advance(12.34)
        pods.contact()
        pods.watching()
        assert len(logs) == 1
        pools.contact()
        pools.watching()

    assert [(entry["log_level"], entry["event"]) for entry in logs] == [
        ("error", "Kubernetes API server does not answer, the last known state stays in force"),
        ("info", "Kubernetes API server answers again"),
    ]
    assert logs[0]["error"] == "connection refused"
    assert logs[1]["away_s"] == 12.3


def test_a_cut_watch_is_counted_and_not_said() -> None:
    instruments = Instruments()
    pods = ApiContact(instruments).watched(PODS, name="p")
    with capture_logs() as logs:
        pods.failed("watch", ApiUnreachable("reset"), cut=True)

    assert not logs
    errors = counted(instruments, "extproc_kubernetes_errors_total")
    assert errors == {'extproc_kubernetes_errors_total{name="p",namespace="models",reason="cut",resource="pods"}': 1}


def test_what_is_refused_is_said_once_with_its_remedy() -> None:
    contact = ApiContact(Instruments())
    pods, pools = contact.watched(PODS), contact.watched(POOLS, install="do this")
    everywhere = contact.watched(Resource("configmaps"), without="adapters are unknown")
    with capture_logs() as logs:
        for _ in range(3):
            pods.failed("watch", ApiError(403, "Forbidden", ""), cut=False)
            pools.failed("list", ApiError(404, "NotFound", ""), cut=False)
            everywhere.failed("list", ApiError(403, "Forbidden", ""), cut=False)
        pods.watching()

    assert [(entry["log_level"], entry.get("problem")) for entry in logs] == [
        (
            "error",
            'no right to watch "pods" in API group "" in namespace "models"; the chart grants it with rbac.create=true',
        ),
        ("warning", "CRD inferencepools.inference.networking.k8s.io with version v1 is not installed; to install it: do this"),
        (
            "warning",
            'no right to list "configmaps" in API group "" in all namespaces; the chart grants it with rbac.create=true',
        ),
        ("info", None),
    ]
    assert [entry.get("effect") for entry in logs] == [None, None, "adapters are unknown", None]


def test_refusals_that_alternate_are_said_once_each_until_they_heal() -> None:
    """A right that is missing, behind an API server whose answers differ: nothing is said over and over."""
    objectives = ApiContact(Instruments()).watched(Resource("inferenceobjectives", "llm-d.ai"), without="priorities are off")
    with capture_logs() as logs:
        for number in range(5):
            objectives.failed("list", ApiError(403, "Forbidden", f"request {number}"), cut=False)
            objectives.failed("list", ApiError(503, "ServiceUnavailable", f"request {number}"), cut=False)
            objectives.failed("watch", ApiError(403, "Forbidden", ""), cut=False)
    assert [(entry["log_level"], entry["problem"].partition(" of")[0]) for entry in logs] == [
        ("warning", GONE.format(verb="list")),
        ("error", "list: 503 ServiceUnavailable: request 0"),
        ("warning", GONE.format(verb="watch")),
    ]
    with capture_logs() as logs:
        objectives.watching()
        objectives.watching()
        objectives.failed("list", ApiError(403, "Forbidden", ""), cut=False)
    assert [entry["log_level"] for entry in logs] == ["info", "warning"], "healed, and then again"


GONE = (
    'no right to {verb} "inferenceobjectives" in API group "llm-d.ai" in all namespaces; '
    "the chart grants it with rbac.create=true"
)


def test_what_several_watches_are_refused_is_one_line() -> None:
    """Pods of 200 pools in a namespace, ConfigMaps by three labels: it is one right that is missing."""
    contact = ApiContact(Instruments())
    watches = [contact.watched(PODS, name=f"pool-{number}") for number in range(5)]
    with capture_logs() as logs:
        for watch in watches:
            watch.failed("list", ApiError(403, "Forbidden", ""), cut=False)
        for watch in watches[1:]:
            watch.watching()
        assert len(logs) == 1
        contact.unwatched(watches[0])
        assert all(watch.problem is None for watch in watches[1:])
        watches[1].failed("list", ApiError(403, "Forbidden", ""), cut=False)
    assert [entry["log_level"] for entry in logs] == ["error", "error"], "a pool that is gone heals nothing, and hides nothing"


def test_the_age_of_what_is_known() -> None:
    clock = FakeClock()
    instruments = Instruments()
    contact = ApiContact(instruments, clock=clock)
    pods = contact.watched(PODS, name="p")
    pods.contact()
    pods.watching()
    clock.advance(30)
    page = read_page(instruments, "extproc_kubernetes")
    labels = '{name="p",namespace="models",resource="pods"}'
    assert page[f"extproc_kubernetes_last_contact_age_seconds{labels}"] == 30
    assert page[f"extproc_kubernetes_in_sync{labels}"] == 1

    contact.unwatched(pods)

    assert not any(labels in name for name in read_page(instruments, "extproc_kubernetes"))
