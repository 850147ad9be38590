"""The OpenAPI document: valid by itself, its examples by its schemas, and free of what no operation needs."""

import re
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from emotion_api.web.openapi import document
from emotion_api.web.operations import OPERATIONS, Operation

JSON_OPERATIONS = [each for each in OPERATIONS if "application/json" in each.content]


@pytest.fixture(params=[False, True], ids=["open", "with tokens"])
def described(request: pytest.FixtureRequest) -> Any:
    """The document as a client reads it."""
    return msgspec.json.decode(msgspec.json.encode(document(with_tokens=request.param)))


@pytest.mark.parametrize("operation", JSON_OPERATIONS, ids=lambda operation: operation.view)
def test_the_example_of_an_operation_fits_its_schema(operation: Operation, described: Any) -> None:
    content = described["paths"][operation.path]["get"]["responses"]["200"]["content"]["application/json"]
    schema = content["schema"] | {"components": described["components"]}

    jsonschema_rs.validate(schema, content["example"])


def test_every_schema_is_referred_to_and_every_reference_has_its_schema(described: Any) -> None:
    referred = set(re.findall(r'"\$ref":"#/components/schemas/([^"]+)"', msgspec.json.encode(described).decode()))

    assert referred == set(described["components"]["schemas"])


def test_a_generated_client_need_not_ask_which_fields_there_are(described: Any) -> None:
    """TypeScript's --strict would refuse summary.current_people.length if the field were optional."""
    schemas = described["components"]["schemas"]

    assert {name: set(schema["properties"]) - set(schema["required"]) for name, schema in schemas.items()} == {
        name: set() for name in schemas
    }


def test_every_schema_of_a_parameter_is_a_valid_schema(described: Any) -> None:
    parameters = [each for path in described["paths"].values() for each in path["get"]["parameters"]]

    assert parameters
    for parameter in parameters:
        jsonschema_rs.meta.validate(parameter["schema"])


def test_no_two_operations_share_an_address_or_a_name() -> None:
    assert len({each.path for each in OPERATIONS}) == len({each.view for each in OPERATIONS}) == len(OPERATIONS)
