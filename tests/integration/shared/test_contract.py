"""The documents of the contract: valid by their own rules, and saying what `decode` does."""

import gzip
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from emotion_device.outbox import payload_limit
from emotion_device.workbench.simulator import MALFORMATIONS, SimulatedDevice, Troubles
from shared.batch import DEVICE_ID, EMOTIONS, DecodeError, Topics, decode, encode, utc
from shared.contract import BROKER_PACKET_BYTES, asyncapi, batch_schema
from shared.messages import ReplyError, ReplyOk
from tests.examples import README_PAYLOAD, payload
from tests.faults.poison import KINDS
from tests.faults.test_16_edited_batches import RECEIVED_AT, cut_up, restructured, stamps
from tests.processes import ROOT

SCHEMA = batch_schema()
VALID = jsonschema_rs.Draft202012Validator(SCHEMA)
TIMESTAMP = jsonschema_rs.Draft202012Validator(SCHEMA["properties"]["timestamp"])
STAMP = "2025-11-14T12:34:56Z"
DEVICE = "kind"

OFFICIAL = Path(__file__).parents[2] / "data" / "asyncapi" / "3.0.0.json.gz"

# --- the schema and decode ------------------------------------------------------------------------------------------

DIFFERENT = {
    "another device's payload": "the schema knows no topic",
    "the device in another case": "the schema knows no topic",
    "a second device": "the schema knows no topic",
    "a good value after a bad one": "JSON readers drop the first of two fields of one name; decode checks it, too",
    "the 30th of February": "the schema knows no calendar",
}
"""Kinds of poison that the schema has no word against, or the other way round, and why."""


class NotJSON(Exception):
    """Raised where a payload is no JSON: not UTF-8 as a whole, numbers without end, half a character."""


def value_of(payload: bytes) -> Any:
    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        value = json.loads(payload.decode(), parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise NotJSON from error
    return value


def accepted_by_schema(payload: bytes) -> bool:
    try:
        return VALID.is_valid(value_of(payload))
    except NotJSON:
        return False


def accepted_by_decode(payload: bytes, device_id: str) -> bool:
    try:
        decode(payload, device_id=device_id, received_at=RECEIVED_AT)
    except DecodeError:
        return False
    return True


def device_of(payload: bytes) -> str:
    """The device that a payload names, as nothing else than a topic could contradict it."""
    try:
        device_id = value_of(payload)["device_id"]
    except (NotJSON, KeyError, TypeError, IndexError):
        return DEVICE
    return device_id if isinstance(device_id, str) and DEVICE_ID.fullmatch(device_id) else DEVICE


def without_what_a_schema_cannot_say(value: Any) -> bytes:
    """The payload again: each field once, a timestamp that both sides see alike, no fraction on whole person ids."""
    if isinstance(value.get("timestamp"), str) and TIMESTAMP.is_valid(value["timestamp"]) != is_time(
        value["timestamp"]
    ):
        value["timestamp"] = STAMP
    for person in value["people"] if isinstance(value.get("people"), list) else []:
        if isinstance(person, dict) and isinstance(person.get("person_id"), float):
            person["person_id"] = int(person["person_id"]) if person["person_id"].is_integer() else "?"
    return json.dumps(value).encode()


def is_time(text: str) -> bool:
    try:
        utc(text)
    except OverflowError:  # decode takes it
        return True
    except ValueError:
        return False
    return True


def test_the_schema_is_valid_by_the_metaschema() -> None:
    jsonschema_rs.meta.validate(SCHEMA)

    assert jsonschema_rs.validator_cls_for(SCHEMA) is jsonschema_rs.Draft202012Validator


def test_the_schema_says_nothing_of_python_and_is_one_whole() -> None:
    text = json.dumps(SCHEMA)

    assert "_P" not in text
    assert "$ref" not in text
    assert "Batch" in text


def test_every_field_of_the_schema_is_described() -> None:
    fields = list(properties(SCHEMA))

    assert {"device_id", "timestamp", "people", "person_id", "cumulative", "neutral"} <= {name for name, _ in fields}
    assert [name for name, field in fields if "description" not in field] == []


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in schema.get("properties", {}).items():
        yield name, field
        yield from properties(field)
        yield from properties(field.get("items", {}))


def test_the_examples_of_the_schema_are_batches() -> None:
    for example in SCHEMA["examples"]:
        assert VALID.is_valid(example)
        assert accepted_by_decode(json.dumps(example).encode(), "jetson_1")
    for stamp in SCHEMA["properties"]["timestamp"]["examples"]:
        assert accepted_by_decode(payload(timestamp=json.dumps(stamp)), "jetson_1")


def test_the_documented_payload_is_valid() -> None:
    assert accepted_by_schema(README_PAYLOAD.encode())


def test_schema_and_decode_differ_about_these_kinds_of_payload_and_no_others() -> None:
    different = {
        name
        for name, kind in KINDS.items()
        if accepted_by_schema(kind.payload(DEVICE)) != accepted_by_decode(kind.payload(DEVICE), DEVICE)
    }

    assert different == set(DIFFERENT)


@pytest.mark.parametrize(
    ("refused", "named"),
    [
        (payload(person_id="1e3"), "nor an exponent"),
        (payload(person_id="1.0"), "neither a fraction"),
        (payload(person_id='"\\ud800"'), "half of a surrogate pair, like \\ud800"),
        (payload(more=f', "x": {"[" * 100_000}{"]" * 100_000}'), "500 levels deep"),
    ],
)
def test_what_decode_alone_refuses_is_named_in_the_text(refused: bytes, named: str) -> None:
    assert not accepted_by_decode(refused, "jetson_1")
    assert named in " ".join(SCHEMA["description"].split())


def test_what_is_ignored_may_be_nested_as_deep_as_the_text_has_it() -> None:
    assert accepted_by_decode(payload(more=f', "x": {"[" * 500}{"]" * 500}'), "jetson_1")


def test_the_document_has_the_limit_of_the_shipped_brokers(document: dict[str, Any]) -> None:
    said = document["operations"]["receiveBatch"]["description"]

    assert f"{BROKER_PACKET_BYTES:,} bytes" in said
    for file in ("mosquitto.conf", "deploy/systemd/mosquitto.conf"):
        assert f"\nmax_packet_size {BROKER_PACKET_BYTES}\n" in (ROOT / file).read_text()


def test_a_batch_of_a_thousand_people_with_the_longest_ids_fits_into_a_packet_of_the_shipped_brokers() -> None:
    seconds = dict.fromkeys(EMOTIONS, 31_536_000.123456789)
    batch = encode("d" * 64, RECEIVED_AT, {f"{number:0128}": seconds for number in range(1_000)})

    assert len(batch) <= payload_limit(
        BROKER_PACKET_BYTES, topic="emotions/" + "d" * 64 + "/batch", response_topic=None
    )


@pytest.mark.parametrize("person_id", ["1" * 128, "1" * 129, "9" * 128, f"-{'9' * 127}", f"-1{'0' * 127}", "-0"])
def test_the_schema_knows_how_many_digits_a_person_id_may_have(person_id: str) -> None:
    text = payload(person_id=person_id)

    assert accepted_by_schema(text) == accepted_by_decode(text, "jetson_1") == (len(person_id) <= 128)


@pytest.mark.parametrize("malform", MALFORMATIONS)
def test_what_the_simulator_malforms_is_not_valid(malform: Any) -> None:
    malformed = malform("jetson_1", RECEIVED_AT)

    assert not accepted_by_decode(malformed, "jetson_1")
    assert not accepted_by_schema(malformed) or device_of(malformed) != "jetson_1"


def test_what_the_simulator_reports_is_valid() -> None:
    device = SimulatedDevice("jetson_1", seed=1, index=0, most_people=8, troubles=Troubles(malformed=0.5))
    for second in range(60):
        batch = device.step(timedelta(seconds=1), now=RECEIVED_AT + timedelta(seconds=second))
        assert accepted_by_schema(encode("jetson_1", batch.timestamp, batch.people))


def test_schema_and_decode_agree_about_edited_batches(request: pytest.FixtureRequest) -> None:
    accepted = refused = 0

    @seed(request.config.getoption("--seed"))
    @settings(max_examples=300, database=None, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False)
    @given(cut_up() | restructured())
    def run(payload: bytes) -> None:
        nonlocal accepted, refused
        decoded = accepted_by_decode(payload, device_of(payload))
        accepted, refused = accepted + decoded, refused + (not decoded)
        if decoded == accepted_by_schema(payload):
            return
        plain = without_what_a_schema_cannot_say(value_of(payload))
        assert plain != json.dumps(value_of(payload)).encode() or is_repeated(payload)
        assert accepted_by_decode(plain, device_of(plain)) == accepted_by_schema(plain)

    run()

    assert accepted > 25
    assert refused > 25


def is_repeated(payload: bytes) -> bool:
    """Return True if some object has two fields of one name."""
    repeated = False

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        repeated = repeated or len({name for name, _ in pairs}) < len(pairs)
        return dict(pairs)

    json.loads(payload, object_pairs_hook=look)
    return repeated


PRINTABLE = st.characters(exclude_categories=("Cc", "Cs"))
SECONDS = st.floats(0, allow_infinity=False) | st.integers(0, 2**70)
PEOPLE = st.dictionaries(
    st.text(PRINTABLE, min_size=1, max_size=128) | st.integers(-(2**70), 2**70),
    st.dictionaries(st.sampled_from(("happy", "sad", "angry", "neutral")), SECONDS),
    max_size=4,
)


@settings(max_examples=100, database=None, deadline=None)
@given(st.from_regex(DEVICE_ID, fullmatch=True), stamps, PEOPLE, st.booleans())
def test_a_batch_by_the_rules_is_accepted_by_both(
    device_id: str, timestamp: str, people: dict[str | int, dict[str, float]], more: bool
) -> None:
    listed = [{"person_id": person_id, "cumulative": seconds} for person_id, seconds in people.items()]
    batch = {"device_id": device_id, "timestamp": timestamp, "people": listed} | (
        {"firmware": [1, None]} if more else {}
    )
    text = json.dumps(batch).encode()

    assert accepted_by_decode(text, device_id)
    assert accepted_by_schema(text)


@pytest.mark.parametrize(
    "text",
    [
        *("2025-11-14", "20251114T1234", "2025-W46-5T12:34:56,5+01", "2025W46T12Z", "2025-11-14 12:34:56-08:00"),
        *("", "2025-11", "2025-13-01", "2025-11-14T24:00", "2025-11-14T12:60", "2025-11-14Z", "2025-W54"),
        *("2025-11-14t12:34:56z", "2016-12-31T23:59:60Z", "2016-12-31T22:59:60Z", "2016-12-31T23:59:61Z"),
        *("2025-11-14T12:34:56z", "2025-11-14T12:34:56+24:00", "2025-11-14T", " 2025-11-14", "2025-11-14x"),
    ],
)
def test_schema_and_decode_agree_about_the_form_of_a_time(text: str) -> None:
    assert TIMESTAMP.is_valid(text) == is_time(text)


@settings(max_examples=150, database=None, deadline=None)
@given(
    st.from_regex(SCHEMA["properties"]["timestamp"]["pattern"], fullmatch=True, alphabet=st.characters(codec="ascii"))
)
def test_a_time_of_the_form_is_read_unless_the_calendar_has_no_such_day(text: str) -> None:
    if not is_time(text):
        assert not is_time(re.split("[Tt ]", text)[0])


# --- AsyncAPI -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def official() -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(json.loads(gzip.decompress(OFFICIAL.read_bytes())))


@pytest.fixture
def document() -> dict[str, Any]:
    return asyncapi(Topics("emotions"))


@pytest.mark.parametrize("prefix", ["emotions", "site/emotions"])
def test_the_document_is_valid_by_the_official_schema(prefix: str, official: jsonschema_rs.Validator) -> None:
    document = json.loads(msgspec.json.encode(asyncapi(Topics(prefix))))

    assert [str(error) for error in official.iter_errors(document)] == []
    assert {
        (server["protocol"], server["host"], *(variable["default"] for variable in server["variables"].values()))
        for server in document["servers"].values()
    } == {
        ("mqtt", "{host}:{port}", "localhost", "1883"),
        ("secure-mqtt", "{host}:{port}", "broker.example.com", "8883"),
    }
    assert [channel["address"] for channel in document["channels"].values()] == [
        f"{prefix}/{{device_id}}/{last}" for last in ("batch", "reply", "status", "info")
    ]


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("operations", "receiveBatch", "bindings", "mqtt", "qos"), 3),
        (("servers", "mqtt", "bindings", "mqtt", "lastWill", "retain"), "yes"),
        (("components", "messages", "batch", "bindings", "mqtt", "responseTopic"), ""),
        (("operations", "receiveBatch", "action"), "subscribe"),
    ],
)
def test_the_official_schema_looks_into_the_bindings(
    path: tuple[str, ...], wrong: object, official: jsonschema_rs.Validator, document: dict[str, Any]
) -> None:
    *parents, last = path
    part = document
    for name in parents:
        part = part[name]
    part[last] = wrong

    assert not official.is_valid(document)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = list(found(document, "$ref"))

    assert len(references) > 10
    for reference in references:
        part = document
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]


def found(part: Any, name: str) -> Iterator[Any]:
    if isinstance(part, dict):
        yield from (value for key, value in part.items() if key == name)
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from found(inner, name)


def test_the_messages_of_an_operation_are_those_of_its_channel(document: dict[str, Any]) -> None:
    for operation in document["operations"].values():
        for asked in (operation, operation.get("reply")):
            if asked:
                channel = asked["channel"]["$ref"]
                assert [ref["$ref"].rpartition("/messages/")[0] for ref in asked["messages"]] == [channel] * len(
                    asked["messages"]
                )


def test_the_examples_of_the_messages_are_valid(document: dict[str, Any]) -> None:
    messages = document["components"]["messages"]

    assert {name for name, message in messages.items() if "examples" in message} >= {"batch", "replyOk", "replyError"}
    for message in messages.values():
        for example in message.get("examples", []):
            assert jsonschema_rs.is_valid(message["payload"], example["payload"])


@pytest.mark.parametrize(("reply", "message"), [(ReplyOk(0), "replyOk"), (ReplyError("no"), "replyError")])
def test_a_reply_is_valid_as_one_message_and_only_one(
    reply: ReplyOk | ReplyError, message: str, document: dict[str, Any]
) -> None:
    sent = json.loads(msgspec.json.encode(reply))

    assert [
        name
        for name in ("replyOk", "replyError")
        if jsonschema_rs.is_valid(document["components"]["messages"][name]["payload"], sent)
    ] == [message]


def test_the_batch_of_the_document_is_the_schema(document: dict[str, Any]) -> None:
    batch = document["components"]["messages"]["batch"]["payload"]

    assert batch == {name: value for name, value in SCHEMA.items() if name not in ("$id", "$schema")}
