"""NVIDIA's definitions of the specs as protobuf classes, built from data/fields.json.

They are those of TAO 5 and later. Before, the sources were closed: `dbscan_min_samples` was a
float then (the demo's specs say 0.05), the rest is taken to be equal.
"""

import json
from functools import cache
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import Message

FIELDS = Path(__file__).parent / "data" / "fields.json"
Proto = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    "double": Proto.TYPE_DOUBLE,
    "float": Proto.TYPE_FLOAT,
    "int32": Proto.TYPE_INT32,
    "bool": Proto.TYPE_BOOL,
    "string": Proto.TYPE_STRING,
    "uint32": Proto.TYPE_UINT32,
}


def parse(text: str, root: str, *, is_open: bool = True) -> Message:
    """Parse a spec as TAO does; text_format.ParseError for an unknown field or a wrong type."""
    message = _classes(is_open)[root]()
    text_format.Parse(text, message)
    return message


@cache
def _classes(is_open: bool) -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(name="tao.proto", syntax="proto3")
    for name, rows in json.loads(FIELDS.read_text()).items():
        message = file.message_type.add(name=_flat(name))
        for field, (number, kind, is_repeated, oneof) in rows.items():
            if field == "dbscan_min_samples" and not is_open:
                kind = "float"
            _add_field(message, field, number, kind, is_repeated, oneof)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = [message.name for message in file.message_type]
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in names
    }


def _add_field(message, field, number, kind, is_repeated, oneof) -> None:
    label = Proto.LABEL_REPEATED if is_repeated else Proto.LABEL_OPTIONAL
    added = message.field.add(name=field, number=number, label=label)
    word, _, rest = kind.partition(" ")
    if word == "message":
        added.type, added.type_name = Proto.TYPE_MESSAGE, f".{_flat(rest)}"
    elif word == "enum":
        added.type, added.type_name = Proto.TYPE_ENUM, f".{message.name}.{field}_values"
        values = message.enum_type.add(name=f"{field}_values").value
        for entry in rest.split():
            value, _, place = entry.partition("=")
            values.add(name=value, number=int(place))
    else:
        added.type = SCALARS[word]
    if oneof:
        known = [entry.name for entry in message.oneof_decl]
        if oneof not in known:
            message.oneof_decl.add(name=oneof)
            known.append(oneof)
        added.oneof_index = known.index(oneof)


def _flat(name: str) -> str:
    return name.replace(".", "_")
