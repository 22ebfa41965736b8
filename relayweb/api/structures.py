"""What bodies and queries are read into, and what answers are written from: msgspec structures, for the document too.

Strict both ways: a field that is not known, a value of another type and a character that could break a line are refused with
the field's name; and an answer has exactly the fields that the OpenAPI document says, because both come from one structure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec
from django.http import QueryDict
from django.utils.translation import gettext_noop as _
from drf_spectacular.drainage import set_override
from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiParameter
from msgspec import inspect as types

from relayweb.api.pagination import MOST
from relayweb.api.problems import Problem, invalid, of_validation

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
MomentGiven = Annotated[datetime, msgspec.Meta(tz=True, description=_("ISO 8601 with a zone"))]

# RFC 5321 and DNS know none of these in a line; PostgreSQL takes no NUL.
_BREAKING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_YEARS = range(2000, 3000)


class Shape(msgspec.Struct, kw_only=True, frozen=True):
    """Part of an answer. Every field is always there."""


class Input(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A body or a query."""


class Query(Input, frozen=True):
    """Of a list: its filters stand in classes of their own."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST, description=_("rows on a page"))] = 50
    cursor: Annotated[
        str, msgspec.Meta(pattern="^[A-Za-z0-9_-]{0,60}$", description=_("`next_cursor` of the page before"))
    ] = ""


Given = TypeVar("Given", bound=msgspec.Struct)


def read_body(body: bytes, kind: type[Given]) -> Given:
    """An empty body is an empty object. Raises Problem."""
    try:
        given = msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise of_validation(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "malformed_request", f"The body is not JSON: {error}") from None
    _check(given)
    return given


def read_query(query: QueryDict, kind: type[Given]) -> Given:
    """Raises Problem."""
    fields = {field.encode_name: _bare(field.type) for field in _fields_of(kind)}
    given: dict[str, Any] = {}
    for name, texts in query.lists():
        if name not in fields:
            raise invalid(name, "no such parameter")
        if isinstance(fields[name], types.ListType):
            given[name] = texts
        elif len(texts) > 1:
            raise invalid(name, "given more than once")
        else:
            given[name] = _plain(texts[0], fields[name], name)
    try:
        found = msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise of_validation(error) from None
    _check(found)
    return found


def _plain(text: str, kind: types.Type, name: str) -> Any:
    if isinstance(kind, types.IntType):
        if not re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII):
            raise invalid(name, "not a whole number")
        return int(text)
    if isinstance(kind, types.BoolType):
        if text not in ("true", "false"):
            raise invalid(name, "true or false")
        return text == "true"
    return text


def _fields_of(kind: type[msgspec.Struct]) -> tuple[types.Field, ...]:
    info = types.type_info(kind)
    assert isinstance(info, types.StructType)
    return info.fields


def _bare(kind: types.Type) -> types.Type:
    return _bare(kind.type) if isinstance(kind, types.Metadata) else kind


def _check(value: Any, path: str = "") -> None:
    """What no type says: characters that break lines, and years that no calendar here reaches. Raises Problem."""
    match value:
        case str():
            if _BREAKING.search(value):
                raise invalid(path, "holds a control character")
        case datetime():
            if value.year not in _YEARS:
                raise invalid(path, "lies outside the years 2000 to 2999")
        case msgspec.Struct():
            names = {field.name: field.encode_name for field in msgspec.structs.fields(type(value))}
            for name, encoded in names.items():
                _check(getattr(value, name), f"{path}.{encoded}" if path else encoded)
        case Mapping():
            for name, inner in value.items():
                _check(inner, f"{path}.{name}" if path else str(name))
        case list() | tuple():
            for place, inner in enumerate(value):
                _check(inner, f"{path}[{place}]")


def given_of(given: msgspec.Struct) -> dict[str, Any]:
    """The fields that were given at all, for a change of only these."""
    values = {name: getattr(given, name) for name in given.__struct_fields__}
    return {name: value for name, value in values.items() if value is not msgspec.UNSET}


def in_utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)


# ---------------------------------------------------------------- the document


class StructExtension(OpenApiSerializerExtension):
    """Lets structures stand in ``extend_schema``: each becomes a component of its own name."""

    target_class = "msgspec.Struct"
    match_subclasses = True

    def get_name(self, auto_schema: Any, direction: Any) -> str:
        # As its own component and as part of another it is told apart by its name alone.
        set_override(self.target, "suppress_collision_warning", True)
        return _public(self.target.__name__)

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        components = {_public(name): _tidy(schema) for name, schema in _components_of(self.target).items()}
        for name, schema in components.items():
            known = _named.setdefault(name, schema)
            assert known == schema, f"two structures are called {name}"
            auto_schema.registry.register_on_missing(
                ResolvedComponent(name=name, type=ResolvedComponent.SCHEMA, object=name, schema=schema)
            )
        return components[_public(self.target.__name__)]


_named: dict[str, Any] = {}


def _components_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
    return components


def _public(name: str) -> str:
    return name.removesuffix("Shape")


def _tidy(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_tidy(member) for member in schema]
    if not isinstance(schema, dict):
        return schema
    tidy = {name: _tidy(value) for name, value in schema.items() if not (name == "title" and isinstance(value, str))}
    if "$ref" in tidy:
        tidy["$ref"] = _public(tidy["$ref"])
    if tidy.pop("contentEncoding", "") == "base64":
        tidy["format"] = "byte"
    # A default that is empty says no more than that the field may be left out.
    return {name: value for name, value in tidy.items() if not (name == "default" and value in (None, "", [], {}))}


def parameters_of(kind: type[msgspec.Struct]) -> list[OpenApiParameter]:
    """A query's fields as parameters of the document."""
    components = _components_of(kind)
    described = components[kind.__name__]["properties"]
    return [
        OpenApiParameter(
            name,
            {key: value for key, value in _inlined(schema, components).items() if key != "description"},
            OpenApiParameter.QUERY,
            description=schema.get("description", ""),
        )
        for name, schema in described.items()
    ]


def _inlined(schema: Any, components: Mapping[str, Any]) -> Any:
    if isinstance(schema, dict):
        if "$ref" in schema:
            target = _inlined(components[schema["$ref"].rpartition("/")[2]], components)
            return {name: value for name, value in target.items() if name != "title"}
        return {name: _inlined(value, components) for name, value in schema.items()}
    if isinstance(schema, list):
        return [_inlined(member, components) for member in schema]
    return schema


def page_of(kind: type[Shape]) -> type[msgspec.Struct]:
    """A page of these, as the document names it."""
    return msgspec.defstruct(
        f"{_public(kind.__name__)}Page",
        [
            ("data", list[kind]),  # type: ignore[valid-type]
            ("next_cursor", Annotated[str | None, msgspec.Meta(description=_("null: the last page"))]),
        ],
        kw_only=True,
        module=kind.__module__,
    )


def page(rows: Iterable[Shape], next_cursor: str | None) -> dict[str, Any]:
    return {"data": list(rows), "next_cursor": next_cursor}
