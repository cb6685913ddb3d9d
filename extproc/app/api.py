"""The REST API of serving endpoints as a part of a service: who may use it, its port, and its file of tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from extproc.app.cluster import Cluster
from extproc.app.component import Component
from extproc.app.telemetry import Telemetry
from extproc.app.watching import FileErrors
from extproc.control.audited import Audited
from extproc.control.desk import Desk
from extproc.control.rollouts import Rollouts
from extproc.files.problems import Unusable
from extproc.files.watch import FileWatcher
from extproc.kubernetes.reviews import API, Reviews
from extproc.live import Live, LiveWriter
from extproc.measures import Measures
from extproc.observability.decisions import DecisionLog
from extproc.observability.logs import logger
from extproc.observability.measures import FeedbackMetrics
from extproc.pool import PoolStore
from extproc.settings.api import ApiSettings
from extproc.settings.base import SettingsError
from extproc.settings.tokens import TokenTable, load_tokens
from extproc.sockets.listen import BindError
from extproc.traffic import TrafficTable

if TYPE_CHECKING:
    from extproc.api.ask import Explain, ShadowsOf
    from extproc.api.auth import Guard
    from extproc.api.server import ApiServer
    from extproc.api.standing import Pools

_log = logger(__name__)

_MISSING_EXTRA: Final = "--api-port is given, and {} is not installed: pip install 'extproc[serving]'"
_FLAG: Final = "--api-tokens-file"


class Behind(NamedTuple):
    """What stands behind the API: what it shows and changes, as a service has it."""

    desk: Desk
    rollouts: Rollouts
    table: Live[TrafficTable]
    ready: Callable[[str], bool]
    """Whether a pool can serve."""
    telemetry: Telemetry
    shadows: ShadowsOf | None = None
    measures: Measures | None = None
    feedback: FeedbackMetrics | None = None
    """Counts what is said of answers, where there are measures."""
    held: Callable[[str], Mapping[str, str]] = lambda name: {}
    """Of an endpoint: which entities do not follow what they name in a registry, and why."""
    pools: Pools | None = None
    """As they stand, and what they were like."""
    decisions: DecisionLog | None = None
    """The last ones, for the page."""
    audited: Audited | None = None
    """Where what was changed and decided can be looked up."""
    explain: Explain | None = None
    """What a request would be told now."""


class TokensFile(Component):
    """Keeps the table of tokens equal to the file's last good content."""

    def __init__(self, path: str, files: FileErrors) -> None:
        """Read it for the first time. Raises SettingsError with every problem; no token is in them."""
        super().__init__("tokens file")
        self._path = path
        self._files = files
        self._writer: LiveWriter[TokenTable] = LiveWriter(TokenTable(), "API tokens")
        self._watcher = FileWatcher(
            path,
            load_tokens,
            on_change=self._changed,
            on_error=lambda problems: files.broken(path, problems),
            on_heal=lambda: files.good(path),
        )
        try:
            self._writer.replace(self._watcher.load())
        except Unusable as error:
            raise SettingsError([f"{_FLAG}: {problem}" for problem in error.problems]) from None
        files.good(path)

    @property
    def table(self) -> Live[TokenTable]:
        """The table in force."""
        return self._writer.live

    async def run(self, ready: asyncio.Event) -> None:
        """Watch until cancelled."""
        await self._watcher.run()

    async def reload(self) -> Sequence[str]:
        """It is watched."""
        return ()

    def _changed(self, table: TokenTable) -> None:
        self._writer.replace(table)
        self._files.good(self._path)
        _log.info("API tokens changed", file=self._path, tokens=len(table))


class ApiPort(Component):
    """Serves the API from `start` to `close`. The desk is opened before, and closed after."""

    def __init__(
        self,
        settings: ApiSettings,
        behind: Behind,
        *,
        tokens: Live[TokenTable] | None = None,
        cluster: Cluster | None = None,
        reuse_port: bool = False,
    ) -> None:
        """`tokens` and `cluster`: what the settings' way to tell callers apart needs.

        Raises SettingsError when the extra `serving` is not installed.
        """
        super().__init__("API of serving endpoints")
        self._settings = settings
        self._reuse_port = reuse_port
        self._cluster = cluster
        self.port = 0
        """Where it listens, once it does."""
        try:
            self._server = _server(_guard(settings, behind.telemetry, tokens, cluster), behind)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing not in ("starlette", "uvicorn", "jinja2"):
                raise
            raise SettingsError([_MISSING_EXTRA.format(missing)]) from None

    async def start(self) -> None:
        """Raises SettingsError when the port can't be had, or when Kubernetes is to be asked about tokens and can't be."""
        from extproc.api.application import prepare

        settings = self._settings
        await asyncio.to_thread(prepare)
        if settings.api_auth_mode == "kubernetes" and self._cluster is not None:
            await self._cluster.connect("--api-auth=kubernetes")
        try:
            self.port = await self._server.start(settings.api_bind_address, settings.api_port, reuse_port=self._reuse_port)
        except BindError as error:
            raise SettingsError([f"--api-port: {error.strerror or error}"]) from None
        _log.info("API of serving endpoints", address=settings.api_bind_address, port=self.port, auth=settings.api_auth_mode)
        if settings.api_auth_mode == "off":
            _log.warning("the API asks for no token: whoever reaches it, also by a proxy here, may change serving endpoints")

    async def close(self) -> None:
        await self._server.stop()


def api_parts(
    settings: ApiSettings, behind: Behind, *, cluster: Cluster | None = None, reuse_port: bool = False
) -> tuple[list[Component], Live[TokenTable] | None]:
    """The components of the API, in their order, and the tokens that the data plane may check too; None: there are none.

    `cluster` is needed with --api-auth=kubernetes. Raises SettingsError.
    """
    parts: list[Component] = []
    tokens: Live[TokenTable] | None = None
    if settings.api_tokens_file is not None:
        file = TokensFile(settings.api_tokens_file, behind.telemetry.files)
        tokens = file.table
        parts.append(file)
    return [*parts, ApiPort(settings, behind, tokens=tokens, cluster=cluster, reuse_port=reuse_port)], tokens


def can_serve(stores: Mapping[str, PoolStore]) -> Callable[[str], bool]:
    """Whether a pool has an endpoint that is not known to be down."""

    def ready(pool: str) -> bool:
        store = stores.get(pool)
        return store is not None and any(not view.down for view in store.views())

    return ready


def _guard(settings: ApiSettings, telemetry: Telemetry, tokens: Live[TokenTable] | None, cluster: Cluster | None) -> Guard:
    from extproc.api.auth import Open, Reviewed, Tokens

    mode = settings.api_auth_mode
    if mode == "off":
        return Open()
    if mode == "tokens":
        if tokens is None:
            raise SettingsError(["--api-auth: got tokens and no table of them; expected --api-tokens-file"])
        return Tokens(tokens)
    if cluster is None:
        raise SettingsError(["--api-auth: got kubernetes without access to Kubernetes; expected --kubeconfig, or a cluster"])
    return Reviewed(Reviews(cluster.client, telemetry.instruments, API))


def _server(guard: Guard, behind: Behind) -> ApiServer:
    from extproc.api.application import application
    from extproc.api.ask import Inside
    from extproc.api.server import ApiServer
    from extproc.slices import Slices

    desk, rollouts, table, ready, telemetry, shadows, measures, feedback, held, pools, decisions, audited, explain = behind
    inside = Inside(
        desk,
        rollouts,
        lambda: table.value,
        ready,
        telemetry.metrics,
        guard,
        Slices(),
        measures=measures,
        feedback=_unheard if feedback is None else feedback.said,
        shadows=shadows,
        held=held,
        pools=pools,
        decisions=decisions,
        audited=audited,
        explain=explain,
    )
    return ApiServer(application(inside, telemetry.instruments))


def _unheard(verdict: str) -> None:
    """What is said of answers counts nowhere."""
