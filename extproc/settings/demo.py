"""Settings of `extproc demo`."""

from __future__ import annotations

from extproc.settings.base import Port, Settings, setting


class DemoSettings(Settings):
    """A real Envoy, `extproc gateway` and two pools of three simulated endpoints, all on this machine.

    Sends requests through Envoy for about half a minute, shows where each one went and why, stops an endpoint on the way, and
    checks everything; the exit code is 0 when all of it held. Needs the extra `demo`.
    """

    port: Port | None = setting(
        None, "Port of Envoy.", env="EXTPROC_DEMO_PORT", default_text="10000, or a free one when that is taken"
    )
    envoy: str | None = setting(
        None, "Envoy's binary.", env="EXTPROC_DEMO_ENVOY", default_text="the one of the extra, else the one on the PATH"
    )
    keep: bool = setting(
        False,
        "Leave everything running until Ctrl-C, with commands to try; without the canary, which takes half a minute.",
        env="EXTPROC_DEMO_KEEP",
    )
