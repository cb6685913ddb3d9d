"""Compare two builds of the same .proto files, fact by fact.

Works on FileDescriptorProto, not on loaded descriptors: two builds share full names, so one descriptor pool cannot
hold both.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)


@dataclass(frozen=True)
class Fact:
    """What a build says about one file, message, field, enum, enum value, service or method."""

    parent: str | None
    says: dict[str, object]


def differences(
    ours: Iterable[FileDescriptorProto],
    reference: Iterable[FileDescriptorProto],
    *,
    trimmed: Collection[str] = (),
) -> dict[str, str]:
    """Where the builds disagree: full name to a sentence. Empty means parity.

    Everything we define must be in the reference. The other way round, whatever we define must be complete: all fields
    of a message, all values of an enum, all methods of a service, all messages of a file. Only of a file named in
    `trimmed` may we leave out whole messages and enums.
    """
    our_facts, reference_facts = facts(ours), facts(reference)
    found = {}
    for name, fact in our_facts.items():
        other = reference_facts.get(name)
        if other is None:
            if fact.parent is None or fact.parent in reference_facts:  # else its parent has been reported
                found[name] = "not in the reference"
        elif fact.says != other.says:
            keys = [k for k in {**fact.says, **other.says} if fact.says.get(k) != other.says.get(k)]
            found[name] = ", ".join(f"{k} {fact.says.get(k)} (reference: {other.says.get(k)})" for k in keys)
    for name, fact in reference_facts.items():
        if name not in our_facts and fact.parent in our_facts and fact.parent not in trimmed:
            found[name] = "only in the reference"
    return found


def facts(files: Iterable[FileDescriptorProto]) -> dict[str, Fact]:
    """Facts by full name. A file may be given twice if both say the same, else ValueError."""
    result: dict[str, Fact] = {}
    for file in files:
        for name, fact in _file(file):
            if result.setdefault(name, fact) != fact:
                raise ValueError(f"{name} is defined twice, differently")
    return result


_Facts = Iterator[tuple[str, Fact]]


def _file(file: FileDescriptorProto) -> _Facts:
    yield file.name, Fact(None, {"package": file.package, "syntax": file.syntax, "edition": file.edition})
    for message in file.message_type:
        yield from _message(message, file.package, file.name)
    for enum in file.enum_type:
        yield from _enum(enum, file.package, file.name)
    for service in file.service:
        yield from _service(service, file.package, file.name)


def _message(message: DescriptorProto, scope: str, parent: str) -> _Facts:
    name = f"{scope}.{message.name}"
    yield name, Fact(parent, {"map entry": message.options.map_entry})
    for field in message.field:
        yield f"{name}.{field.name}", Fact(name, _field(field, message))
    for nested in message.nested_type:
        yield from _message(nested, name, name)
    for enum in message.enum_type:
        yield from _enum(enum, name, name)


def _field(field: FieldDescriptorProto, message: DescriptorProto) -> dict[str, object]:
    return {
        "number": field.number,
        "type": FieldDescriptorProto.Type.Name(field.type),
        "type name": field.type_name,
        "label": FieldDescriptorProto.Label.Name(field.label),
        "oneof": message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None,
        "optional": field.proto3_optional,
        "packed": field.options.packed if field.options.HasField("packed") else None,
        "deprecated": field.options.deprecated,
    }


def _enum(enum: EnumDescriptorProto, scope: str, parent: str) -> _Facts:
    name = f"{scope}.{enum.name}"
    yield name, Fact(parent, {"alias": enum.options.allow_alias})
    for value in enum.value:
        yield f"{name}.{value.name}", Fact(name, {"number": value.number})


def _service(service: ServiceDescriptorProto, scope: str, parent: str) -> _Facts:
    name = f"{scope}.{service.name}"
    yield name, Fact(parent, {})
    for method in service.method:
        yield (
            f"{name}.{method.name}",
            Fact(
                name,
                {
                    "request": method.input_type,
                    "response": method.output_type,
                    "client streaming": method.client_streaming,
                    "server streaming": method.server_streaming,
                },
            ),
        )
