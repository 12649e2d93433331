"""
The MediaConvert API as botocore describes it: is this JSON what it says it is?

The service refuses members it does not know and values outside its lists, while
boto3 sends them unchecked; a job that only works here would be no use.

Source: botocore's service model of ``mediaconvert`` (rest-json).
"""

import functools
from collections.abc import Iterator
from typing import Any

import botocore.session

_SCALARS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "double": (int, float),
    "timestamp": (int, float),
    "boolean": (bool,),
}


@functools.cache
def service_model() -> Any:
    """The model; some hundred milliseconds of reading the first time."""
    return botocore.session.get_session().get_service_model("mediaconvert")


def request_problems(operation: str, body: Any) -> list[str]:
    """What is wrong with a request's JSON, each as "/path/to/member: what"."""
    return list(problems(service_model().operation_model(operation).input_shape, body))


def answer_problems(operation: str, body: Any) -> list[str]:
    """The same for an answer's JSON."""
    return list(problems(service_model().operation_model(operation).output_shape, body))


def problems(shape: Any, value: Any, path: str = "") -> Iterator[str]:
    """Compare one JSON value with one shape, members included."""
    if shape.type_name == "structure":
        yield from _structure_problems(shape, value, path)
    elif shape.type_name == "list":
        yield from _list_problems(shape, value, path)
    elif shape.type_name == "map":
        yield from _map_problems(shape, value, path)
    else:
        yield from _scalar_problems(shape, value, path)


def _structure_problems(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path or '/'}: must be an object"
        return
    members = {
        member.serialization.get("name", name): (name, member)
        for name, member in shape.members.items()
    }
    given = {members[key][0] for key in value if key in members}
    for wire, (name, _) in members.items():
        if name in shape.required_members and name not in given:
            yield f"{path}/{wire}: is required"
    for wire, item in value.items():
        if wire not in members:
            yield f"{path}/{wire}: is not a member of {shape.name}"
        else:
            yield from problems(members[wire][1], item, f"{path}/{wire}")


def _list_problems(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path}: must be an array"
        return
    for number, item in enumerate(value):
        yield from problems(shape.member, item, f"{path}/{number}")


def _map_problems(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: must be an object"
        return
    for key, item in value.items():
        yield from problems(shape.value, item, f"{path}/{key}")


def _scalar_problems(shape: Any, value: Any, path: str) -> Iterator[str]:
    wanted = _SCALARS[shape.type_name]
    if not isinstance(value, wanted) or (
        isinstance(value, bool) and bool not in wanted
    ):
        yield f"{path}: must be of type {shape.type_name}"
        return
    if shape.metadata.get("enum") and value not in shape.metadata["enum"]:
        yield f"{path}: must be one of {', '.join(shape.metadata['enum'])}"
    size = len(value) if isinstance(value, str) else value
    if size < shape.metadata.get("min", size) or size > shape.metadata.get("max", size):
        yield f"{path}: is outside its limits"
