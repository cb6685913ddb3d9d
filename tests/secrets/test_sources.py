"""What holds for every source of secrets, and then what is each one's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from extproc.credentials import Reference, Secret
from extproc.kubernetes.client import KubeClient
from extproc.kubernetes.errors import ApiError, ApiUnreachable
from extproc.secrets import ClusterSource, EnvironmentSource, FolderSource, Unreadable
from extproc.secrets.source import MAX_SECRET_BYTES
from tests.fakes.kube import FakeKube
from tests.secrets.sources import Filled, FilledCluster, FilledEnvironment, FilledFolder

OPENAI = Reference("ai", "openai")
OTHER = Reference("ai", "anthropic-key")
ELSEWHERE = Reference("team-b", "openai")


@pytest.fixture(params=["environment", "folder", "cluster"])
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Filled:
    if request.param == "environment":
        return FilledEnvironment()
    return FilledFolder(tmp_path) if request.param == "folder" else FilledCluster()


async def test_each_reference_gets_its_own_secret(filled: Filled) -> None:
    filled.put(OPENAI, b"sk-1")
    filled.put(ELSEWHERE, b"sk-2")
    found = await filled.source.read([OPENAI, OTHER, ELSEWHERE])
    assert found == {OPENAI: Secret("sk-1"), OTHER: None, ELSEWHERE: Secret("sk-2")}


async def test_nothing_wanted_is_nothing_read(filled: Filled) -> None:
    assert await filled.source.read([]) == {}


async def test_white_space_around_a_secret_is_not_part_of_it(filled: Filled) -> None:
    filled.put(OPENAI, b" sk-1\r\n\n")
    assert await filled.source.read([OPENAI]) == {OPENAI: Secret("sk-1")}


async def test_lines_inside_stay(filled: Filled) -> None:
    filled.put(OPENAI, b"-----BEGIN-----\nabc\n-----END-----\n")
    assert await filled.source.read([OPENAI]) == {OPENAI: Secret("-----BEGIN-----\nabc\n-----END-----")}


async def test_a_change_is_seen_and_so_is_its_end(filled: Filled) -> None:
    filled.put(OPENAI, b"sk-1")
    await filled.source.read([OPENAI])
    filled.put(OPENAI, b"sk-2")
    assert await filled.source.read([OPENAI]) == {OPENAI: Secret("sk-2")}
    filled.remove(OPENAI)
    assert await filled.source.read([OPENAI]) == {OPENAI: None}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"sk-\x1b1", "has control characters"),
        (b"sk-\xff", "not UTF-8"),
        (b"k" * (MAX_SECRET_BYTES + 1), f"larger than {MAX_SECRET_BYTES} bytes"),
    ],
)
async def test_what_can_be_no_secret_is_told_without_a_quote(filled: Filled, data: bytes, why: str) -> None:
    filled.put(OPENAI, data)
    assert await filled.source.read([OPENAI]) == {OPENAI: Unreadable(why)}


async def test_places_name_the_reference_and_nothing_else(filled: Filled) -> None:
    filled.put(OPENAI, b"sk-verysecret")
    await filled.source.read([OPENAI])
    place = filled.source.place(OPENAI)
    assert "openai" in place.lower()
    assert "sk-" not in place + repr(filled.source)


def test_names_of_variables() -> None:
    source = EnvironmentSource({})
    assert source.variable(Reference("team-a.x", "open@i_Key")) == "EXTPROC_SECRET_TEAM_A_X_OPEN_I_KEY"


class TestFolder:
    async def test_half_a_file_is_not_believed(self, tmp_path: Path) -> None:
        folder = FilledFolder(tmp_path)
        folder.put(OPENAI, b"sk-old")
        await folder.source.read([OPENAI])
        folder.put(OPENAI, b"sk-n")
        folder.meanwhile = [b"sk-new", b"sk-new"]
        assert await folder.source.read([OPENAI]) == {OPENAI: Secret("sk-new")}
        assert len(folder.pauses) == 2

    async def test_a_file_that_never_rests_stays_what_it_was(self, tmp_path: Path) -> None:
        folder = FilledFolder(tmp_path)
        folder.put(OPENAI, b"sk-old")
        await folder.source.read([OPENAI])
        folder.put(OPENAI, b"sk-0")
        folder.meanwhile = [f"sk-{n}".encode() for n in range(1, 20)]
        assert await folder.source.read([OPENAI]) == {OPENAI: Secret("sk-old")}
        assert len(folder.pauses) < 10

    async def test_mounted_volumes_are_swapped_by_links(self, tmp_path: Path) -> None:
        for name, key in (("..1", "sk-1"), ("..2", "sk-2")):
            (tmp_path / "ai" / name).mkdir(parents=True)
            (tmp_path / "ai" / name / "openai").write_text(key)
        (tmp_path / "ai" / "..data").symlink_to("..1")
        (tmp_path / "ai" / "openai").symlink_to("..data/openai")
        source = FilledFolder(tmp_path).source
        assert await source.read([OPENAI]) == {OPENAI: Secret("sk-1")}
        (tmp_path / "ai" / "..new").symlink_to("..2")
        os.replace(tmp_path / "ai" / "..new", tmp_path / "ai" / "..data")
        assert await source.read([OPENAI]) == {OPENAI: Secret("sk-2")}

    async def test_a_pipe_is_not_waited_for_and_a_folder_is_no_secret(self, tmp_path: Path) -> None:
        (tmp_path / "ai").mkdir()
        os.mkfifo(tmp_path / "ai" / "openai")
        (tmp_path / "ai" / "anthropic-key").mkdir()
        assert await FolderSource(tmp_path).read([OPENAI, OTHER]) == {
            OPENAI: Unreadable("expected a regular file, this is a pipe"),
            OTHER: Unreadable("expected a regular file, this is a directory"),
        }


class TestCluster:
    async def test_one_request_for_each_secret_by_its_name(self) -> None:
        cluster = FilledCluster()
        cluster.put(OPENAI, b"sk-1")
        cluster.put(OTHER, b"sk-2")
        await cluster.source.read([OPENAI, OTHER, ELSEWHERE])
        assert cluster.asked == [
            "GET /api/v1/namespaces/gateway/secrets/ai",
            "GET /api/v1/namespaces/gateway/secrets/team-b",
        ]

    async def test_a_name_that_no_secret_can_have_is_not_asked_for(self) -> None:
        cluster = FilledCluster()
        assert await cluster.source.read([Reference("Team_A", "k")]) == {Reference("Team_A", "k"): None}
        assert cluster.asked == []

    @pytest.mark.parametrize(
        ("failure", "why"),
        [
            (ApiError(403, "Forbidden", "x"), "no right to get the Secret gateway/ai"),
            (ApiError(500, "InternalError", "x"), "the API server answered 500 InternalError"),
            (ApiUnreachable("refused"), "the API server can't be asked: refused"),
        ],
    )
    async def test_a_server_that_says_no(self, failure: ApiError | ApiUnreachable, why: str) -> None:
        cluster = FilledCluster()
        cluster.failure = failure
        assert await cluster.source.read([OPENAI]) == {OPENAI: Unreadable(why)}

    @pytest.mark.parametrize("odd", ["%%%", "c2stMQ", 7, None])
    async def test_odd_data(self, odd: object) -> None:
        cluster = FilledCluster()
        cluster.data["ai"] = {"openai": odd}
        (found,) = (await cluster.source.read([OPENAI])).values()
        assert found == (Unreadable("not base64") if isinstance(odd, str) else None)

    async def test_through_the_client(self, tmp_path: Path) -> None:
        fake = FakeKube()
        await fake.start()
        (tmp_path / "kubeconfig").write_text(fake.kubeconfig())
        fake.put("secrets", {"metadata": {"name": "ai", "namespace": "default"}, "data": {"openai": "c2stMQ=="}})
        client = await KubeClient.connect(str(tmp_path / "kubeconfig"))
        try:
            found = await ClusterSource(client, "default").read([OPENAI, OTHER, ELSEWHERE])
        finally:
            await client.close()
            await fake.kill()
        assert found == {OPENAI: Secret("sk-1"), OTHER: None, ELSEWHERE: None}
        assert {verb for verb, _, query in fake.requests if not query} == {"GET"}
