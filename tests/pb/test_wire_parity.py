"""extproc.pb says on the wire what Envoy says: the same names, numbers, types, cardinality and service.

Two references (see references.py): the Envoy binary, with which there is no difference, and xds-protos, from which we
differ only where it is behind Envoy.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import Default, DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pb import references
from tests.pb.compare import differences
from tests.pb.messages import build, tree_of, trees

pytestmark = pytest.mark.timeout(60)  # another process and a 100 MB binary, not the two seconds of a pure test

OURS = references.committed()
NAMES = [file.name for file in OURS]

# Of these files we define only the messages that travel on an ext_proc stream.
TRIMMED = {"envoy/config/core/v3/base.proto"}

# xds-protos 1.85.0 was made from an earlier state of the API: request_drain had the number that Envoy 1.40 gives to
# streamed_immediate_response, and what came later is absent. Envoy decides. When xds-protos catches up, the test below
# fails until the line that is no longer true is gone.
_PACKAGE = "envoy.service.ext_proc.v3"
XDS_PROTOS_IS_BEHIND = {
    f"{_PACKAGE}.ProcessingResponse.request_drain": "number 12 (reference: 11), deprecated True (reference: False)",
    **{
        f"{_PACKAGE}.{name}": "not in the reference"
        for name in (
            "HttpBody.drain_complete",
            "ProcessingRequest.ClientWindowUpdate",
            "ProcessingRequest.FlowControlInit",
            "ProcessingRequest.client_window_update",
            "ProcessingRequest.flow_control_init",
            "ProcessingResponse.ServerWindowUpdate",
            "ProcessingResponse.TypedDynamicMetadataEntry",
            "ProcessingResponse.request_drain_requests",
            "ProcessingResponse.request_drain_responses",
            "ProcessingResponse.server_window_update",
            "ProcessingResponse.streamed_immediate_response",
            "ProcessingResponse.typed_dynamic_metadata",
            "StreamedBodyResponse.drain_complete",
            "StreamedImmediateResponse",
        )
    },
}


@pytest.fixture(scope="module")
def xds_protos() -> list[FileDescriptorProto]:
    return references.xds_protos(NAMES)


@pytest.fixture(scope="module")
def xds_pool(xds_protos: list[FileDescriptorProto]) -> DescriptorPool:
    """A pool beside the default one, which holds our build of the same names."""
    pool = DescriptorPool()
    for file in xds_protos:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def test_parity_with_envoy() -> None:
    assert differences(OURS, references.envoy_binary(NAMES), trimmed=TRIMMED) == {}


def test_parity_with_xds_protos_except_where_it_is_behind(xds_protos: list[FileDescriptorProto]) -> None:
    assert differences(OURS, xds_protos, trimmed=TRIMMED) == XDS_PROTOS_IS_BEHIND


def _messages(messages: list[DescriptorProto], scope: str) -> Iterator[str]:
    for message in messages:
        name = f"{scope}.{message.name}"
        if name not in XDS_PROTOS_IS_BEHIND and not message.options.map_entry:
            yield name
            yield from _messages(list(message.nested_type), name)


@pytest.mark.parametrize("name", [n for file in OURS for n in _messages(list(file.message_type), file.package)])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_round_trip_with_xds_protos(xds_pool: DescriptorPool, name: str, data: st.DataObject) -> None:
    descriptor = Default().FindMessageTypeByName(name)
    mine, theirs = GetMessageClass(descriptor), GetMessageClass(xds_pool.FindMessageTypeByName(name))
    tree = data.draw(trees(descriptor, XDS_PROTOS_IS_BEHIND))
    for sender, receiver in ((mine, theirs), (theirs, mine)):
        message = build(sender(), tree)
        sent = message.SerializeToString(deterministic=True)
        received = receiver.FromString(sent)
        assert tree_of(received) == tree_of(message)
        assert received.SerializeToString(deterministic=True) == sent


def test_a_missing_reference_is_an_error_that_names_the_script(tmp_path: Path) -> None:
    with pytest.raises(references.ReferenceMissingError, match="run scripts/install-xds-protos"):
        references.xds_protos(NAMES, tmp_path)


def test_a_reference_of_another_version_counts_as_missing(tmp_path: Path) -> None:
    (tmp_path / "installed.lock").write_text("xds-protos==0.0.1\n")
    with pytest.raises(references.ReferenceMissingError, match="run scripts/install-xds-protos"):
        references.xds_protos(NAMES, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_header_names_the_versions_that_were_compared(name: str) -> None:
    header = (references.ROOT / "protos" / name).read_text().partition("\nsyntax")[0]
    assert f"envoyproxy/envoy v{references.envoy_version()}, api/{name}" in header
    assert f"xds-protos {references.xds_version()}" in header
    assert "Trimmed" in header
