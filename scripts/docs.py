"""Write the generated parts of the docs, or check that they are current (`--check`).

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`. The JSON schema of a picker's config is made as a
whole.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from extproc.api.application import ALL
from extproc.app.checking import picker_schema
from extproc.app.pool_parts import ELSEWHERE_TYPES
from extproc.audit.row import FIELDS
from extproc.cli.options import env_of, flag_of, is_hidden, shown_default
from extproc.domain import SIGNALS
from extproc.external.providers import PROVIDERS, Auth
from extproc.protocol.table import REQUEST_ROWS, RESPONSE_ROWS, mermaid
from extproc.request import paths
from extproc.scheduling.registry import PLUGIN_TYPES
from extproc.settings import upstream
from extproc.settings.commands import SERVERS
from extproc.transport.h2 import table as h2_table

ROOT = Path(__file__).resolve().parent.parent
_SCHEMA = "docs/schema/endpoint-picker-config.json"
_PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _diagram(which: str) -> str:
    rows = REQUEST_ROWS if which == "request" else RESPONSE_ROWS
    return f"```mermaid\n{mermaid(rows)}\n```\n"


def _takers(field: str, meaning: str | None) -> dict[str, FieldInfo]:
    """The commands that have this flag with this meaning."""
    fields = {command: model.model_fields.get(field) for command, model in SERVERS.items()}
    return {command: info for command, info in fields.items() if info is not None and info.description == meaning}


def _flags(*commands: str) -> str:
    """The flags that these commands have, and no others."""
    lines = ["| flag | default | environment | meaning |", "|---|---|---|---|"]
    for field, info in SERVERS[commands[0]].model_fields.items():
        takers = _takers(field, info.description)
        if is_hidden(info) or set(takers) != set(commands):
            continue
        defaults: dict[str, list[str]] = {}
        for command, its in takers.items():
            defaults.setdefault(shown_default(its) or "–", []).append(command)
        shown = next(iter(defaults))
        if len(defaults) > 1:
            shown = ", ".join(f"{default} ({', '.join(whose)})" for default, whose in defaults.items())
        doc = (info.description or "").replace("|", "\\|")
        lines.append(f"| `--{flag_of(field, info)}` | {shown} | `{env_of(field, info)}` | {doc} |")
    return "\n".join(lines) + "\n"


def _upstream(command: str) -> str:
    lines = ["| upstream's flag | here | why | use instead | no warning for |", "|---|---|---|---|---|"]
    for flag in upstream.flags_of(command):
        quiet = ", ".join(f"`{value}`" for value in flag.quiet)
        lines.append(f"| `--{flag.flag}` | {flag.kind} | {flag.why} | {flag.instead or '–'} | {quiet or '–'} |")
    lines += [f"| `--{flag}` | refused | {why} | – | – |" for flag, why in upstream.REFUSED.get(command, {}).items()]
    return "\n".join(lines) + "\n"


def _variables() -> str:
    lines = ["| variable | of | why it has no effect | use instead |", "|---|---|---|---|"]
    lines += [f"| `{row.name}` | {', '.join(row.commands)} | {row.why} | {row.instead or '–'} |" for row in upstream.VARIABLES]
    return "\n".join(lines) + "\n"


def _naming_paths() -> str:
    lines = ["| path | of |", "|---|---|"]
    for template, api in paths.NAMING_PATHS:
        shown = template.replace("|", "\\|")
        lines.append(f"| `{shown}` | {api} |")
    return "\n".join(lines) + "\n"


def _body_paths() -> str:
    lines = ["| path | of | without a model |", "|---|---|---|"]
    told = {paths.Api.NEEDS_MODEL: "refused", paths.Api.READS_MODEL: "the model server's own"}
    lines += [f"| `{path}` | {whose} | {told[api]} |" for path, (api, whose) in paths.BODY_PATHS.items()]
    return "\n".join(lines) + "\n"


def _signals() -> str:
    lines = ["| signal | unit | from | gauges | what it is |", "|---|---|---|---|---|"]
    for signal in SIGNALS:
        gauges = ", ".join(f"`{gauge}`" for gauge in (signal.each, signal.mean, signal.spread) if gauge)
        lines.append(f"| `{signal.name}` | {signal.unit} | {signal.source.value} | {gauges or '–'} | {signal.doc} |")
    return "\n".join(lines) + "\n"


def _plugins() -> str:
    lines = ["| type | family | parameters (default) | what it does |", "|---|---|---|---|"]
    for row in (*PLUGIN_TYPES.values(), *ELSEWHERE_TYPES.values()):
        fields = [(name, info) for name, info in row.parameters.model_fields.items() if not info.exclude]
        parameters = ", ".join(f"`{info.alias or name}`{_default(info)}" for name, info in fields)
        lines.append(f"| `{row.name}` | {row.family} | {parameters or '–'} | {row.what} |")
    return "\n".join(lines) + "\n"


def _audit_fields() -> str:
    lines = ["| field | kind | what it is |", "|---|---|---|"]
    lines += [f"| `{field.name}` | {field.kind} | {field.doc} |" for field in FIELDS]
    return "\n".join(lines) + "\n"


def _api_calls() -> str:
    lines = ["| call | role | what | Databricks' |", "|---|---|---|---|"]
    for call in ALL:
        role = "–" if call.role is None else call.role.name.lower()
        lines.append(f"| `{call.method} {call.path}` | {role} | {call.what} | {'ours' if call.ours else 'yes'} |")
    return "\n".join(lines) + "\n"


def _providers() -> str:
    head = ("provider", "tasks", "where, unless configured", "configured by", "the key", "goes into")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for provider in PROVIDERS.values():
        tasks = ", ".join(f"`{task.value.removeprefix('llm/v1/')}`" for task in provider.tasks)
        where = f"`{provider.base}`" if provider.base else "–"
        by = " or ".join(f"`{name}`" for name in (provider.base_field, provider.base_variable) if name)
        key = f"`{provider.credential}`" if provider.credential else "`bearer_token_auth` or `api_key_auth`, or none"
        header = "`authorization`" if provider.auth is Auth.BEARER else f"`{provider.auth.value}`"
        header = header if provider.credential else "`authorization`, or the header that `api_key_auth.key` names"
        lines.append(f"| `{provider.name}` | {tasks} | {where} | {by} | {key} | {header} |")
    return "\n".join(lines) + "\n"


def _default(info: FieldInfo) -> str:
    default = info.get_default(call_default_factory=True)
    if default in (None, {}, (), PydanticUndefined) or isinstance(default, BaseModel):
        return ""
    return f" {str(default).lower() if isinstance(default, bool) else default}"


PARTS: dict[str, Callable[[], str]] = {
    "api-calls": _api_calls,
    "audit-fields": _audit_fields,
    "request-states": lambda: _diagram("request"),
    "response-states": lambda: _diagram("response"),
    "h2-states": lambda: f"```mermaid\n{h2_table.mermaid()}\n```\n",
    "common-flags": lambda: _flags("bbr", "epp", "gateway"),
    "router-flags": lambda: _flags("bbr", "gateway"),
    "picker-flags": lambda: _flags("epp", "gateway"),
    "bbr-flags": lambda: _flags("bbr"),
    "epp-flags": lambda: _flags("epp"),
    "gateway-flags": lambda: _flags("gateway"),
    "bbr-upstream": lambda: _upstream("bbr"),
    "epp-upstream": lambda: _upstream("epp"),
    "upstream-variables": _variables,
    "naming-paths": _naming_paths,
    "body-paths": _body_paths,
    "signals": _signals,
    "plugins": _plugins,
    "providers": _providers,
}


def render(text: str) -> str:
    """The text with its generated parts made anew. Raises KeyError for a part that nobody generates."""
    return _PART.sub(lambda match: f"{match[1]}{PARTS[match[2]]()}{match[3]}", text)


def main() -> int:
    """Exit code 1 when something is stale under `--check`."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"usage: .venv/bin/python scripts/docs.py [--check]\n\n{__doc__}")
        return 0
    stale = []
    pages = {path: render(path.read_text()) for path in sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])}
    pages[ROOT / _SCHEMA] = json.dumps(picker_schema(), indent=1, ensure_ascii=False) + "\n"
    for path, wanted in pages.items():
        if not path.exists() or wanted != path.read_text():
            stale.append(path.relative_to(ROOT))
            if "--check" not in sys.argv:
                path.write_text(wanted)
    if "--check" in sys.argv and stale:
        print(f"stale: {', '.join(map(str, stale))}; run .venv/bin/python scripts/docs.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
