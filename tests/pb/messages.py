"""Random messages as plain trees (field name to value), so that two builds can be filled with the same content."""

from collections.abc import Collection
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

Tree = dict[str, Any]

_INT32 = st.integers(-(2**31), 2**31 - 1)
_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=20),
    FieldDescriptor.TYPE_DOUBLE: st.floats(allow_nan=False),
    # Enums are open in proto3: a value we have no name for must pass as well.
    FieldDescriptor.TYPE_ENUM: st.one_of(st.integers(0, 5), _INT32),
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_STRING: st.text(max_size=10),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
}


@st.composite
def trees(draw: st.DrawFn, message: Descriptor, skip: Collection[str], depth: int = 5) -> Tree:
    """Content for a message, without the fields whose full names are in `skip`."""
    choices: dict[str, list[FieldDescriptor]] = {}
    for field in message.fields:
        if field.full_name not in skip:
            oneof = field.containing_oneof
            choices.setdefault(oneof.name if oneof else field.name, []).append(field)
    tree = {}
    for fields in choices.values():
        chosen = draw(st.sampled_from([None, *fields]))
        if chosen:
            tree[chosen.name] = draw(_values(chosen, skip, depth))
    return tree


def build(message: Message, tree: Tree) -> Message:
    """Put the content of `tree` into an empty message, and return it."""
    for name, value in tree.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        target = getattr(message, name)
        if _is_map(field):
            for key, entry in value.items():
                if _map_entry(field)["value"].message_type:
                    build(target[key], entry)
                else:
                    target[key] = entry
        elif field.is_repeated:
            for item in value:
                if field.message_type:
                    build(target.add(), item)
                else:
                    target.append(item)
        elif field.message_type:
            target.SetInParent()
            build(target, value)
        else:
            setattr(message, name, value)
    return message


def tree_of(message: Message) -> Tree:
    """The content of a message; what its build does not know is not in it."""
    tree: Tree = {}
    for field, value in message.ListFields():
        if _is_map(field):
            tree[field.name] = {k: _plain(v) for k, v in value.items()}
        elif field.is_repeated:
            tree[field.name] = [_plain(v) for v in value]
        else:
            tree[field.name] = _plain(value)
    return tree


def _plain(value: Any) -> Any:
    return tree_of(value) if isinstance(value, Message) else value


def _is_map(field: Any) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _map_entry(field: Any) -> dict[str, FieldDescriptor]:
    """A map is a repeated message of two fields, key and value."""
    return {f.name: f for f in field.message_type.fields}


def _values(field: FieldDescriptor, skip: Collection[str], depth: int) -> st.SearchStrategy[Any]:
    if _is_map(field):
        entry = _map_entry(field)
        return st.dictionaries(_value(entry["key"], skip, depth), _value(entry["value"], skip, depth), max_size=2)
    one = _value(field, skip, depth)
    return st.lists(one, max_size=3) if field.is_repeated else one


def _value(field: FieldDescriptor, skip: Collection[str], depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is None:
        return _SCALARS[field.type]
    return trees(field.message_type, skip, depth - 1) if depth else st.just({})
