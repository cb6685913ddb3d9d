"""Objects that can't be used, as far as people see them: a line when that begins, changes or ends, and a gauge."""

from __future__ import annotations

from collections.abc import Callable

from extproc.kubernetes.reflector import Key
from extproc.observability.instruments import Instruments
from extproc.observability.logs import logger

_log = logger(__name__)


class ObjectErrors:
    """One per process. The listeners (`on_change`) hear of each turn too: for Events, for example."""

    def __init__(self, instruments: Instruments) -> None:
        self._gauge = instruments.once(
            "kubernetes object errors",
            lambda: instruments.gauge(
                "extproc_kubernetes_object_errors",
                "1 while something is wrong with an object of Kubernetes; what was good of it stays in force.",
                ["kind", "namespace", "name"],
            ),
        )
        self._problems: dict[tuple[str, Key], str] = {}
        self.on_change: list[Callable[[str, Key, str | None], None]] = []
        """Called with kind, key, and the problem; None when the object is well again, not when it is gone."""

    def __repr__(self) -> str:
        return f"<ObjectErrors {len(self._problems)}>"

    def __len__(self) -> int:
        return len(self._problems)

    def of(self, kind: str, key: Key) -> str | None:
        """What is wrong with an object now."""
        return self._problems.get((kind, key))

    def check(self, kind: str, key: Key, problem: str | None, *, effect: str = "its last good state stays") -> None:
        """This is wrong with the object; None: nothing is."""
        before = self._problems.get((kind, key))
        if problem == before:
            return
        namespace, name = key
        if problem is None:
            del self._problems[kind, key]
            self._gauge.remove(kind, namespace, name)
            _log.info("object is good again", kind=kind, namespace=namespace, name=name)
        else:
            self._problems[kind, key] = problem
            self._gauge.child(kind, namespace, name).value = 1
            _log.warning(f"object is wrong, {effect}", kind=kind, namespace=namespace, name=name, problem=problem)
        for listener in self.on_change:
            listener(kind, key, problem)

    def forget(self, kind: str, key: Key) -> None:
        """The object is gone."""
        if self._problems.pop((kind, key), None) is not None:
            self._gauge.remove(kind, *key)
