"""Documents questions in OpenAPI: controls by name, a record's filters as one object, shared parts as components.

A list has hundreds of parameters. Its filters are documented as properties of one `filters` parameter, whose style
makes each property a parameter of its own. So the document stays short and requests stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema, fields

from app.store.query.question import Operator
from app.web.fields import TIME_IN_FILTERS, TIME_PATTERN, Digest, Flag, Key, Moment, Number, Word, Zone, zones
from app.web.filters import QuestionSchema
from app.web.parameters import MEANINGS, Filter, OfClock, Once, Parameter, Several
from app.web.schemas import AuditSchema, DeliverySchema, ExpectedCallSchema, OutcomeSchema, RecordSchema

_EXAMPLES: Mapping[type[RecordSchema], dict[str, str]] = {
    OutcomeSchema: {"status": "completed", "duration_seconds__gte": "30"},
    DeliverySchema: {"verdict": "applied", "size__gte": "100"},
    ExpectedCallSchema: {"state": "missing", "batch": "spring"},
    AuditSchema: {"what__prefix": "downloads", "status": "200"},
}
# By type of field: the component's name, the pattern of each value between commas, and the description.
_VALUES: Mapping[type[fields.Field[Any]], tuple[str, str, str]] = {
    Flag: ("FlagFilter", "true|false", "`true` or `false`"),
    Number: ("NumberFilter", r"[01]?\d{1,9}|2[01]\d{8}", "Whole numbers from 0 to 2147483647"),
    Moment: ("TimeFilter", TIME_PATTERN, "Times, local in `tz` where they have no offset"),
    Key: ("IdFilter", "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", "UUIDs"),
    Digest: ("DigestFilter", "[0-9a-fA-F]{64}", "SHA-256 in hex"),
}


class Plugin(MarshmallowPlugin):
    """The apispec plugin that documents questions in this way."""

    class Converter(OpenAPIConverter):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.add_attribute_function(_parameter_schema)  # type: ignore[no-untyped-call]
            self.add_parameter_attribute_function(_parameter_style)

        def schema2parameters(self, schema: Schema, *, location: str, **options: Any) -> list[Any]:
            if isinstance(schema, QuestionSchema):
                return _Components(self, schema).parameters()
            parameters: list[Any] = super().schema2parameters(schema, location=location, **options)
            return parameters

    def init_spec(self, spec: Any) -> None:
        super().init_spec(spec)
        spec.components.schema("TimeZone", {"type": "string", "enum": sorted(zones())})
        spec.components.schema("Time", TIME_IN_FILTERS)


class _Components:
    """A question's parameters as components; questions share components that are equal."""

    def __init__(self, converter: OpenAPIConverter, schema: QuestionSchema) -> None:
        self._converter = converter
        self._components = converter.spec.components
        self._schema = schema
        self._record_name = type(schema.record).__name__.removesuffix("Schema")

    def parameters(self) -> list[str]:
        """Return the names of the parameters' components, the filters last."""
        filters = {name: field for name, field in self._schema.fields.items() if isinstance(field, Filter | OfClock)}
        controls = {name: field for name, field in self._schema.fields.items() if name not in filters}
        return [*(self._control(name, field) for name, field in controls.items()), self._filters(filters)]

    def _control(self, name: str, field: fields.Field[Any]) -> str:
        parameter = self._converter._field2parameter(field, name=name, location="query")
        component = self._record_name + _camel(name)
        if self._components.parameters.get(component, parameter) != parameter:
            component = type(self._schema).__name__.partition("Schema")[0] + component
        return self._parameter(component, parameter)

    def _filters(self, filters: Mapping[str, Filter | OfClock]) -> str:
        filtered_fields = {field.field for field in filters.values() if isinstance(field, Filter)}
        left_out = sorted(self._schema.record.fields.keys() - filtered_fields)
        component = "Without".join([f"{self._record_name}Filters", *map(_camel, left_out)])
        schema = {
            "type": "object",
            "description": _ABOUT_FILTERS,
            "properties": {name: self._schema_of(*_value(field)) for name, field in filters.items()},
            "additionalProperties": False,
            "examples": [_EXAMPLES[type(self._schema.record)]],
        }
        parameter = {
            "in": "query",
            "name": "filters",
            "description": _ABOUT_PARAMETER,
            "style": "form",
            "explode": True,
            "schema": self._schema_of(component, schema),
        }
        return self._parameter(component, parameter)

    # If two components differ under one name, apispec refuses the second.

    def _parameter(self, component: str, parameter: dict[str, Any]) -> str:
        if self._components.parameters.get(component) != parameter:
            self._components.parameter(component, "query", parameter)
        return component

    def _schema_of(self, component: str, schema: dict[str, Any]) -> dict[str, str]:
        if self._components.schemas.get(component) != schema:
            self._components.schema(component, schema)
        return {"$ref": f"#/components/schemas/{component}"}


def _value(field: Filter | OfClock) -> tuple[str, dict[str, Any]]:
    """Return the name and the schema of the component for a filter's texts."""
    if isinstance(field, OfClock):
        return _of_clock(field)
    if field.is_whole:
        return "PartFilter", {"type": "string", "description": "One text, taken whole"}
    if field.operator is Operator.NULL:
        return "NullFilter", _several("true|false", "`true` or `false`")
    if isinstance(field.inner, Word):
        words = [word.value for word in field.inner.words]
        return f"{field.inner.words.__name__}Filter", _several("|".join(words), f"Any of {', '.join(words)}")
    for kind, (component, pattern, about) in _VALUES.items():
        if isinstance(field.inner, kind):
            return component, _several(pattern, about)
    return "TextFilter", {"type": "string", "description": "Texts between commas, with case"}


def _of_clock(field: OfClock) -> tuple[str, dict[str, Any]]:
    if isinstance(field.inner, Word):
        component, pattern = "WeekdayFilter", "|".join(word.value for word in field.inner.words)
    else:
        component, pattern = "HourFilter", r"1?\d|2[0-3]"
    return component, _several(pattern, field.metadata["description"])


def _several(pattern: str, about: str) -> dict[str, Any]:
    return {
        "type": "string",
        "description": f"{about}, between commas",
        "pattern": f"^({pattern})(,({pattern}))*$",
    }


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _spelled(operator: Operator) -> str:
    return f"field__{operator}" if operator else "field"


_ABOUT_PARAMETER = (
    "Conditions that all hold, each sent by itself as `field=value` or `field__op=value`; the operators are "
    + ", ".join(f"`{operator}`" for operator in MEANINGS if operator)
)
_ABOUT_FILTERS = (
    "; ".join(f"`{_spelled(operator)}` {meaning}" for operator, meaning in MEANINGS.items())
    + ". Several values stand between commas"
)


def _parameter_schema(self: OpenAPIConverter, field: fields.Field[Any], ret: Any) -> dict[str, Any]:
    """Return the schema of a parameter's values."""
    if not isinstance(field, Parameter):
        return {}
    schema = _value_schema(self, field.inner)
    return schema if isinstance(field, Once) else {"type": "array", "items": schema, "minItems": 1}


def _value_schema(converter: OpenAPIConverter, inner: fields.Field[Any]) -> dict[str, Any]:
    if isinstance(inner, Zone):
        return {"$ref": "#/components/schemas/TimeZone"}
    if isinstance(inner, Moment):
        return {"$ref": "#/components/schemas/Time"}
    schema: dict[str, Any] = converter.field2property(inner)
    return schema


def _parameter_style(self: OpenAPIConverter, field: fields.Field[Any], ret: Any) -> dict[str, Any]:
    """Return the style of several values (between commas), and the example: pages read it from the parameter."""
    style = {"style": "form", "explode": False} if isinstance(field, Several) else {}
    example = ret["schema"].pop("example", None)
    return style if example is None else style | {"example": example}
