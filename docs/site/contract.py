"""The reference of the contract, from the comments in the proto file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from docs.site.text import cell, code, plain, table
from google.protobuf import descriptor_pb2 as descriptors
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[2]
PROTO = "trimtab/v1/placement.proto"
_Field = descriptors.FieldDescriptorProto
_Path = tuple[int, ...]
# The numbers by which descriptor.proto tells where in a file something stands
_MESSAGE, _ENUM, _SERVICE, _SYNTAX = 4, 5, 6, 12
_MEMBER = 2  # a field of a message, a value of an enum, an RPC of a service


def contract() -> str:
    """The service with its RPCs, then every message and enum."""
    file = _described()
    comments = {tuple(place.path): _tidied(place) for place in file.source_code_info.location}
    parts = [plain(comments[_SYNTAX,])]
    for number, service in enumerate(file.service):
        parts += [f"## {service.name}", plain(comments[_SERVICE, number])]
        parts += _rpcs(service, (_SERVICE, number), comments)
    parts.append("## Messages")
    for number, message in enumerate(file.message_type):
        parts += [f"### {message.name}", plain(comments[_MESSAGE, number])]
        parts += _fields(message, (_MESSAGE, number), comments)
    parts.append("## Enums")
    for number, enum in enumerate(file.enum_type):
        rows = [
            (code(value.name), str(value.number), cell(comments[_inside((_ENUM, number), at)]))
            for at, value in enumerate(enum.value)
        ]
        parts += [f"### {enum.name}", plain(comments[_ENUM, number]), table(("value", "number", ""), rows)]
    return "\n\n".join(parts)


def _inside(place: _Path, at: int) -> _Path:
    """Where the field, value or RPC of this number stands."""
    return (*place, _MEMBER, at)


def _described() -> descriptors.FileDescriptorProto:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        options = ("--include_source_info", f"--descriptor_set_out={out}")
        failed = protoc.main(["protoc", f"-I{ROOT / 'proto'}", *options, PROTO])
        if failed:
            raise RuntimeError(f"protoc ended with {failed}")
        return descriptors.FileDescriptorSet.FromString(out.read_bytes()).file[0]


def _tidied(place: descriptors.SourceCodeInfo.Location) -> str:
    lines = place.leading_comments.splitlines()
    return "\n".join(line.removeprefix(" ") for line in lines)


def _rpcs(service: descriptors.ServiceDescriptorProto, place: _Path, comments: dict[_Path, str]) -> Iterator[str]:
    for at, rpc in enumerate(service.method):
        yield f"### {rpc.name}"
        yield f"{_linked(rpc.input_type)} → {_linked(rpc.output_type)}"
        yield plain(comments[_inside(place, at)])


def _fields(message: descriptors.DescriptorProto, place: _Path, comments: dict[_Path, str]) -> Iterator[str]:
    rows = [
        (code(field.name), str(field.number), _type(field), cell(comments[_inside(place, at)]))
        for at, field in enumerate(message.field)
    ]
    if rows:
        yield table(("field", "number", "type", ""), rows)


def _type(field: _Field) -> str:
    before = "repeated " if field.label == _Field.LABEL_REPEATED else "optional " if field.proto3_optional else ""
    if field.type_name:
        return f"{before}{_linked(field.type_name)}"
    return code(before + _Field.Type.Name(field.type).removeprefix("TYPE_").lower())


def _linked(full_name: str) -> str:
    name = full_name.rpartition(".")[2]
    return f"[{code(name)}](#{name.lower()})"
