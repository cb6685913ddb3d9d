"""The comparison bites: one planted mismatch per kind of fact, in an otherwise equal copy."""

from collections.abc import Callable

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from tests.pb import references
from tests.pb.compare import differences, facts

EXT_PROC = "envoy/service/ext_proc/v3/external_processor.proto"
PACKAGE = "envoy.service.ext_proc.v3"


def _file(name: str = EXT_PROC) -> FileDescriptorProto:
    return next(file for file in references.committed() if file.name == name)


def _message(file: FileDescriptorProto, name: str) -> DescriptorProto:
    return next(message for message in file.message_type if message.name == name)


def _field(file: FileDescriptorProto, message: str, name: str) -> FieldDescriptorProto:
    return next(field for field in _message(file, message).field if field.name == name)


def _package(file: FileDescriptorProto) -> None:
    file.package = "envoy.service.ext_proc.v4"
    for message in file.message_type:
        message.name = "Other" + message.name


def _number(file: FileDescriptorProto) -> None:
    _field(file, "HttpBody", "end_of_stream").number = 9


def _name(file: FileDescriptorProto) -> None:
    _field(file, "HttpBody", "end_of_stream").name = "eos"


def _type(file: FileDescriptorProto) -> None:
    _field(file, "HttpBody", "body").type = FieldDescriptorProto.TYPE_STRING


def _type_name(file: FileDescriptorProto) -> None:
    _field(file, "HeadersResponse", "response").type_name = f".{PACKAGE}.HeaderMutation"


def _enum_type_name(file: FileDescriptorProto) -> None:
    _field(file, "CommonResponse", "status").type_name = ".envoy.type.v3.StatusCode"


def _label(file: FileDescriptorProto) -> None:
    _field(file, "HttpBody", "body").label = FieldDescriptorProto.LABEL_REPEATED


def _optional(file: FileDescriptorProto) -> None:
    _field(file, "GrpcStatus", "status").proto3_optional = True


def _out_of_oneof(file: FileDescriptorProto) -> None:
    _field(file, "BodyMutation", "clear_body").ClearField("oneof_index")


def _other_oneof(file: FileDescriptorProto) -> None:
    _message(file, "BodyMutation").oneof_decl.add(name="other")
    _field(file, "BodyMutation", "clear_body").oneof_index = 1


def _map_to_list(file: FileDescriptorProto) -> None:
    _message(file, "ProcessingRequest").nested_type[-1].options.map_entry = False


def _enum_number(file: FileDescriptorProto) -> None:
    _message(file, "CommonResponse").enum_type[0].value[1].number = 2


def _enum_value_absent(file: FileDescriptorProto) -> None:
    del _message(file, "CommonResponse").enum_type[0].value[1]


def _field_absent(file: FileDescriptorProto) -> None:
    del _message(file, "HttpHeaders").field[2]


def _message_absent(file: FileDescriptorProto) -> None:
    file.message_type.remove(_message(file, "GrpcStatus"))


def _method_name(file: FileDescriptorProto) -> None:
    file.service[0].method[0].name = "Handle"


def _method_response(file: FileDescriptorProto) -> None:
    file.service[0].method[0].output_type = f".{PACKAGE}.ImmediateResponse"


def _not_client_streaming(file: FileDescriptorProto) -> None:
    file.service[0].method[0].client_streaming = False


def _not_server_streaming(file: FileDescriptorProto) -> None:
    file.service[0].method[0].server_streaming = False


MUTATIONS: dict[Callable[[FileDescriptorProto], None], str] = {
    _package: EXT_PROC,
    _number: f"{PACKAGE}.HttpBody.end_of_stream",
    _name: f"{PACKAGE}.HttpBody.end_of_stream",
    _type: f"{PACKAGE}.HttpBody.body",
    _type_name: f"{PACKAGE}.HeadersResponse.response",
    _enum_type_name: f"{PACKAGE}.CommonResponse.status",
    _label: f"{PACKAGE}.HttpBody.body",
    _optional: f"{PACKAGE}.GrpcStatus.status",
    _out_of_oneof: f"{PACKAGE}.BodyMutation.clear_body",
    _other_oneof: f"{PACKAGE}.BodyMutation.clear_body",
    _map_to_list: f"{PACKAGE}.ProcessingRequest.AttributesEntry",
    _enum_number: f"{PACKAGE}.CommonResponse.ResponseStatus.CONTINUE_AND_REPLACE",
    _enum_value_absent: f"{PACKAGE}.CommonResponse.ResponseStatus.CONTINUE_AND_REPLACE",
    _field_absent: f"{PACKAGE}.HttpHeaders.end_of_stream",
    _message_absent: f"{PACKAGE}.GrpcStatus",
    _method_name: f"{PACKAGE}.ExternalProcessor.Process",
    _method_response: f"{PACKAGE}.ExternalProcessor.Process",
    _not_client_streaming: f"{PACKAGE}.ExternalProcessor.Process",
    _not_server_streaming: f"{PACKAGE}.ExternalProcessor.Process",
}


def test_equal_builds_have_no_differences() -> None:
    assert differences(references.committed(), references.committed()) == {}


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__.strip("_"))
def test_a_planted_mismatch_is_found_from_either_side(mutate: Callable[[FileDescriptorProto], None]) -> None:
    planted = _file()
    mutate(planted)
    assert MUTATIONS[mutate] in differences([planted], [_file()])
    assert MUTATIONS[mutate] in differences([_file()], [planted])


def test_a_difference_says_what_both_sides_say() -> None:
    planted = _file()
    _number(planted)
    assert differences([planted], [_file()]) == {f"{PACKAGE}.HttpBody.end_of_stream": "number 9 (reference: 2)"}


def test_a_trimmed_file_may_lack_messages_but_its_messages_may_not_lack_fields() -> None:
    planted = _file()
    _message_absent(planted)
    _field_absent(planted)
    found = differences([planted], [_file()], trimmed={EXT_PROC})
    assert found == {f"{PACKAGE}.HttpHeaders.end_of_stream": "only in the reference"}


def test_a_file_that_the_reference_lacks_is_found() -> None:
    assert differences([_file()], []) == {EXT_PROC: "not in the reference"}


def test_copies_of_a_file_must_agree() -> None:
    planted = _file()
    _number(planted)
    with pytest.raises(ValueError, match=r"HttpBody\.end_of_stream is defined twice, differently"):
        facts([_file(), planted])
