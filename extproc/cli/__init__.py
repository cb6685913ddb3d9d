"""The `extproc` command: one file per subcommand, each turning flags and environment into settings.

Subcommands are imported when they are called, so that `extproc --help` is instant and a router needs no demo extra.
"""

from __future__ import annotations

import importlib

import click

from extproc import __version__, compiled

_COMMANDS = {
    "bbr": "Body-based router: sets X-Gateway-Model-Name from the request body.",
    "epp": "Endpoint picker of one pool, behind an InferencePool or a standalone Envoy.",
    "gateway": "Both stages on one stream: model to pool to endpoint.",
    "sim": "A simulated vLLM server.",
    "audit": "What was decided and changed, by whom and why; and whether that record is whole.",
    "check": "Whether configs and objects are right, and what there will be.",
    "rollout": "Let one served entity take over from another, step by step.",
    "split": "Change the split of a serving endpoint.",
    "top": "Pools, endpoints, entities and rollouts of a running process, live.",
    "render": "A serving endpoint as objects of KServe, Istio or the Gateway API.",
    "import": "Objects of KServe or Istio as serving endpoints.",
    "new-plugin": "A package with a plugin of your own, to begin with.",
    "health": "Ask the server of this container whether it is ready.",
    "demo": "A real Envoy, the gateway and simulated pools, on this machine.",
}
_MODULES = {"import": "import_objects"}
"""Of commands whose name is no module's."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"extproc.cli.{_MODULES.get(cmd_name, cmd_name.replace('-', '_'))}")
        command: click.Command = module.COMMAND
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(
    __version__, prog_name="extproc", message=f"%(prog)s %(version)s ({'compiled' if compiled() else 'not compiled'})"
)
def main() -> None:
    """Inference gateway brain for Envoy: which model serves a request, and which endpoint of that model's pool."""
