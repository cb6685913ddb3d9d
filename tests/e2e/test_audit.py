"""The audit behind a real Envoy: which config served this request, who moved this user; kill -9, and a full disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from extproc.audit.files import CHANGES, decision_files
from extproc.cli.audit import COMMAND
from tests.api.tokens import ALICE
from tests.e2e.behind import API, Behind, behind, own, split
from tests.e2e.parts import Endpoints, until

pytestmark = pytest.mark.e2e

USER, ID = "ada@example.com", "7d1f7d9e-0000-4000-8000-00000000000{}"


def ask(*flags: str) -> dict[str, Any]:
    result = CliRunner().invoke(COMMAND, [*flags, "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = orjson.loads(result.stdout)
    return found


def kept(*flags: str, count: int = 1) -> dict[str, Any]:
    """The answer once that many decisions are written."""

    def look() -> dict[str, Any] | None:
        found = ask(*flags)
        return found if len(found["decisions"]) >= count else None

    found = until(look, what="the decision is written")
    assert found is not None
    return found


def moved(at: Behind, **shares: Any) -> None:
    words = "reason=challenger%20is%20good&approved_by=cy"
    at.api("PUT", f"/chat/config?{words}", {"traffic_config": split(**shares)})


def test_which_config_served_a_request_and_who_moved_a_user(
    envoy_binary: Path, session_endpoints: Endpoints, tmp_path: Path
) -> None:
    url, folder = f"sqlite:///{tmp_path}/state.db", tmp_path / "audit"
    flags = ("--audit-dir", str(folder), "--database-url", url)
    with behind(envoy_binary, session_endpoints, tmp_path, *flags) as at:
        at.api("POST", "", {"name": "chat", "config": own(current=100, challenger=0)})
        assert at.ask(x_user_id=USER, x_request_id=ID.format(1)).status == 200
        moved(at, current=0, challenger=100)
        assert at.ask(x_user_id=USER, x_request_id=ID.format(2)).status == 200
        moved(at, current=50, challenger=50)
        refused = at.ask("nobody", x_request_id=ID.format(3))
        assert at.ask(x_user_id=USER, x_request_id=ID.format(4)).status == 200

        (first,) = kept(*flags, "--request-id", ID.format(1))["decisions"]
        (second,) = kept(*flags, "--request-id", ID.format(2))["decisions"]
        (third,) = kept(*flags, "--request-id", ID.format(3))["decisions"]
        assert (first["entity"], first["version"], first["status"], first["made_by"]["kind"]) == ("current", 1, 200, "create")
        assert (second["entity"], second["version"], second["made_by"]["actor"]) == ("challenger", 2, "alice@example.com")
        assert (second["made_by"]["reason"], second["made_by"]["approved_by"]) == ("challenger is good", "cy")
        assert second["made_by"]["origin"] == "127.0.0.1"
        assert second["server"].startswith("127.0.0.1:")
        assert (third["status"], bool(third["error"])) == (refused.status, True)
        user = kept(*flags, "--endpoint", "chat", "--user-key", USER)
        assert {"endpoint": "chat", "status": 200}.items() <= user["decisions"][0].items()
        told = CliRunner().invoke(COMMAND, [*flags, "--endpoint=chat", f"--user-key={USER}"]).output
        assert f"moved bucket {user['bucket']} from current to challenger" in told
        assert CliRunner().invoke(COMMAND, [*flags, "--verify"]).exit_code == 0

    assert USER not in "".join(path.read_bytes().decode("latin-1") for path in folder.iterdir())


def test_a_gateway_that_was_killed_while_it_wrote_goes_on_behind_what_it_had_written(
    envoy_binary: Path, session_endpoints: Endpoints, tmp_path: Path
) -> None:
    folder = tmp_path / "audit"
    flags = ("--audit-dir", str(folder), "--database-url", f"sqlite:///{tmp_path}/state.db")
    with behind(envoy_binary, session_endpoints, tmp_path, *flags) as at:
        at.api("POST", "", {"name": "chat", "config": own(current=100, challenger=0)})
        assert at.ask(x_request_id=ID.format(1)).status == 200
        kept(*flags, "--request-id", ID.format(1))
        at.stack.servers["gateway"].kill()
        (left,) = decision_files(folder)
        with left.path.open("ab") as file:
            file.write(b'{"at_ms":1790000000000,"id":"half')  # as a writing that is cut leaves it
        told = ask(*flags, "--request-id", ID.format(1))
        assert len(told["decisions"]) == 1
        (note,) = told["notes"]
        assert note.startswith(f"{left.path.name}: its last line has no end")

        at.restart()
        assert at.ask(x_request_id=ID.format(2)).status == 200

        kept(*flags, "--request-id", ID.format(2))
        until(lambda: not left.path.exists(), what="what was left is closed")
        assert len(ask(*flags, "--request-id", ID.format(1))["decisions"]) == 1
        assert CliRunner().invoke(COMMAND, [*flags, "--verify"]).exit_code == 0


def test_on_a_full_disk_requests_go_on_and_changes_are_refused_with_the_reason(
    envoy_binary: Path, session_endpoints: Endpoints, tmp_path: Path
) -> None:
    """`/dev/full` takes nothing, as a disk that is full; the folder is one that nothing can be added to."""
    folder = tmp_path / "audit"
    flags = ("--audit-dir", str(folder))
    with behind(envoy_binary, session_endpoints, tmp_path, *flags) as at:
        at.api("POST", "", {"name": "chat", "config": own(current=100, challenger=0)})
        assert at.ask(x_request_id=ID.format(1)).status == 200
        kept(*flags, "--request-id", ID.format(1))
        journal = folder / CHANGES
        saved = journal.rename(tmp_path / "saved")
        journal.symlink_to("/dev/full")

        refused = at.call("PUT", f"{API}/chat/config", {"traffic_config": split(current=50, challenger=50)}, ALICE)

        assert refused.status == 503
        assert "can't be recorded" in json.dumps(refused.json)
        assert "No space left on device" in json.dumps(refused.json)
        assert at.ask(x_request_id=ID.format(2)).status == 200
        journal.unlink()
        saved.rename(journal)
        moved(at, current=50, challenger=50)
        assert CliRunner().invoke(COMMAND, [*flags, "--verify"]).exit_code == 0
