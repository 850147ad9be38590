"""`python -m emotion_device validate`: what it says of a file, and how it ends."""

import codecs
import io
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from emotion_device.workbench.validate import examine, main
from shared.batch import DecodeError, decode
from tests.examples import README_PAYLOAD, payload
from tests.faults.poison import KINDS
from tests.processes import ROOT, without_settings

NOW = datetime(2025, 11, 14, 12, 35, tzinfo=UTC)


def file(folder: Path, content: bytes, name: str = "batch.json") -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


def warnings(content: bytes, topic: str | None = None) -> list[str]:
    ok, *rest = examine(content, topic=topic, now=NOW)
    assert ok.startswith("ok: ")
    return rest


def test_a_valid_batch_is_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file(tmp_path, README_PAYLOAD.encode())

    assert main([path]) == 0
    assert capsys.readouterr().out == f"{path}: ok: 1 person, {len(README_PAYLOAD)} bytes\n"


def test_nobody_and_several_people_are_counted() -> None:
    several = payload(more=', "people": [' + ",".join(f'{{"person_id":{n},"cumulative":{{}}}}' for n in range(3)) + "]")

    assert examine(payload(more=', "people": []'), topic=None, now=NOW)[0].startswith("ok: 0 people, ")
    assert examine(several, topic=None, now=NOW)[0].startswith("ok: 3 people, ")


def test_each_of_several_files_has_its_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = file(tmp_path, payload(), "good"), file(tmp_path, payload(cumulative='{"happy": -1}'), "bad")

    assert main([bad, good]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{bad}: not a valid batch: Expected `float` >= 0.0 - at `$.people[0].cumulative.happy`"
    assert second.startswith(f"{good}: ok: ")


def test_a_minus_is_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(payload())))

    assert main(["-"]) == 0
    assert capsys.readouterr().out.startswith("standard input: ok: 1 person")


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = file(tmp_path, b"", "bad")

    assert main([str(tmp_path / "none"), str(tmp_path), bad]) == 2
    told = capsys.readouterr()
    assert told.err.count("cannot be read") == 2
    assert "No such file" in told.err
    assert told.out == f"{bad}: not a valid batch: the payload is empty: a batch is a JSON object\n"


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'{"device_id": "jetson_1",\n "people": [}', "line 2, column 13: "),
        (b"{x", "line 1, column 2: "),
        ('{"é": "é",\n\n"ü": "é" x}'.encode(), "line 3, column 10: "),
        (payload().replace(b'"1"', b'\n"\xff"'), "line 2, column 2: "),
        (b'{"device_id": "jetson_1",\n "people', "line 2, column 9: "),
        (b'{"a', "line 1, column 4: "),
        (payload(person_id="null"), ""),
    ],
)
def test_broken_json_is_shown_by_line_and_column(
    content: bytes, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([file(tmp_path, content)]) == 1

    said = capsys.readouterr().out
    assert f"not a valid batch: {place}" in said
    assert ("column" in said) == bool(place)


def test_a_byte_order_mark_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([file(tmp_path, codecs.BOM_UTF8 + payload())]) == 1

    assert "it begins with a byte order mark (BOM)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_of_everything_what_the_daemon_says(kind: str) -> None:
    content = KINDS[kind].payload("kind")
    try:
        decode(content, device_id="kind", received_at=NOW)
        expected = None
    except DecodeError as error:
        expected = str(error)

    if expected is None:
        assert examine(content, topic="emotions/kind/batch", now=NOW)[0].startswith("ok: ")
    else:
        with pytest.raises(DecodeError) as caught:
            examine(content, topic="emotions/kind/batch", now=NOW)
        assert str(caught.value) == expected


@pytest.mark.parametrize("target", [("--device", "jetson_2"), ("--topic", "site/emotions/jetson_2/batch")])
def test_the_device_has_to_be_the_one_that_is_asked_about(
    target: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = file(tmp_path, payload())
    own = file(tmp_path, payload(device_id='"jetson_2"'), "own")

    assert main([*target, own]) == 0
    assert main([*target, other]) == 1
    assert "device_id is not the topic's 'jetson_2'" in capsys.readouterr().out


@pytest.mark.parametrize("device_id", ["", "a b", "a/b", "x" * 65, "é"])
def test_a_device_that_can_have_no_topic_is_no_device(device_id: str) -> None:
    with pytest.raises(DecodeError, match=r"^device_id '.*' is not 1 to 64 of"):
        examine(payload(device_id=json.dumps(device_id)), topic=None, now=NOW)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "FILE"),
        (("--topic", "emotions/jetson_1/status", "x"), "<prefix>/<device_id>/batch"),
        (("--topic", "jetson_1", "x"), "<prefix>/<device_id>/batch"),
        (("--topic", "+/jetson_1/batch", "x"), "<prefix>/<device_id>/batch"),
        (("--topic", "/jetson_1/batch", "x"), "<prefix>/<device_id>/batch"),
        (("--topic", "$SYS/jetson_1/batch", "x"), "<prefix>/<device_id>/batch"),
        (("--device", "a b", "x"), "1 to 64 of"),
        (("--device", "a", "--topic", "e/a/batch", "x"), "not allowed with"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    told = capsys.readouterr()
    assert ended.value.code == 2
    assert sentence in told.err
    assert told.err.count("\n") == 1


# --- warnings -------------------------------------------------------------------------------------------------------


def test_there_is_no_warning_about_the_documented_payload() -> None:
    assert warnings(README_PAYLOAD.encode()) == []


def test_unknown_fields_are_named_each_once() -> None:
    people = ",".join(f'{{"person_id": {n}, "age": 3, "cumulative": {{"joy": 1}}}}' for n in range(2))
    content = payload(more=f', "people": [{people}], "firmware": {{"happy": 1}}')

    assert warnings(content) == [
        "warning: the daemon ignores unknown fields: $.people[].age, $.people[].cumulative.joy, $.firmware"
    ]


def test_of_very_many_unknown_fields_some_are_named() -> None:
    (warning,) = warnings(payload(more="".join(f', "x{n}": 1' for n in range(1_000))))

    assert "$.x0, $.x1, $.x2, $.x3, $.x4 and 995 more" in warning


def test_an_unknown_name_cannot_write_to_the_terminal() -> None:
    (warning,) = warnings(payload(more=', "\\u001b[2J": 1'))

    assert warning.isprintable()


@pytest.mark.parametrize(
    ("stamp", "why"), [("2025-11-14T12:36:01Z", "60 s ahead"), ("1970-01-01T00:00:10Z", "too long ago")]
)
def test_a_stamp_that_would_be_replaced_is_told(stamp: str, why: str) -> None:
    (warning,) = warnings(payload(timestamp=json.dumps(stamp)))

    assert why in warning
    assert "time of receipt" in warning


def test_a_stamp_that_is_late_is_no_reason_to_warn() -> None:
    assert warnings(payload(timestamp='"2021-01-01"')) == []


def test_a_person_twice_is_told() -> None:
    people = ",".join(f'{{"person_id": {n}, "cumulative": {{}}}}' for n in ("1", '"1"', '"a"', '"b"', '"b"'))

    assert warnings(payload(more=f', "people": [{people}]')) == [
        "warning: more than one entry for person '1', 'b': the last one counts"
    ]


def test_a_payload_that_no_broker_of_ours_takes_is_told() -> None:
    fits = payload() + b" " * (327_680 - len(payload()) - 40)

    assert warnings(fits) == []
    assert "fit into a packet of 320 KiB" in warnings(fits + b" " * 40)[0]


# --- as a program ---------------------------------------------------------------------------------------------------


def test_it_runs_as_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "emotion_device", "validate", "-"],
        input=b"[]",
        env=without_settings() | {"EMOTION_MQTT_PORT": "no port, and none is needed"},
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (1, b"")
    assert done.stdout == b"standard input: not a valid batch: Expected `object`, got `array`\n"


def validate(
    shell: str, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run it as `shell` says: there $VALIDATE is the command, $0 and $1 are arguments."""
    return subprocess.run(
        ["bash", "-c", shell.replace("$VALIDATE", f"{sys.executable} -m emotion_device validate"), *arguments],
        cwd=ROOT,
        env=without_settings() | (environment or {}),
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_a_standard_input_that_is_closed_cannot_be_read() -> None:
    done = validate("$VALIDATE - <&-")

    assert done.returncode == 2
    assert done.stderr == b"python -m emotion_device validate: standard input cannot be read: it is closed\n"


def test_a_file_larger_than_the_memory_cannot_be_read(tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as stream:
        stream.truncate(6 * 2**30)
    done = validate('ulimit -v 2000000; $VALIDATE "$0" "$1"', str(huge), file(tmp_path, payload()))

    assert done.returncode == 2
    assert done.stderr.endswith(b"huge cannot be read: it is larger than the free memory\n")
    assert done.stderr.count(b"\n") == 1
    assert b"ok: 1 person" in done.stdout


@pytest.mark.parametrize("shell", ["$VALIDATE $0 $0 $0 | true; exit ${PIPESTATUS[0]}", "$VALIDATE $0 >&-"])
def test_whoever_does_not_read_to_the_end_has_the_right_exit_code(shell: str, tmp_path: Path) -> None:
    done = validate(shell, file(tmp_path, payload(cumulative="[]")))

    assert (done.returncode, done.stderr) == (1, b"")


def test_where_nothing_can_be_written_that_is_the_sentence(tmp_path: Path) -> None:
    done = validate("$VALIDATE $0 >/dev/full", file(tmp_path, payload()))

    assert done.returncode == 2
    assert done.stderr == (
        b"python -m emotion_device validate: standard output cannot be written: No space left on device\n"
    )


def test_the_output_is_utf_8_whatever_the_terminal_has_letters_for(tmp_path: Path) -> None:
    content = payload(more=', "\u5e74": 1').replace(b"\\u5e74", "\u5e74".encode())
    done = validate("$VALIDATE $0", file(tmp_path, content), environment={"PYTHONIOENCODING": "cp1252"})

    assert (done.returncode, done.stderr) == (0, b"")
    assert "$.\u5e74".encode() in done.stdout


def test_it_needs_nothing_that_only_the_server_has() -> None:
    program = "import sys, emotion_device.workbench.simulation, emotion_device.workbench.validate\n"
    program += "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split())

    assert "msgspec" in loaded
    assert loaded & {"sqlalchemy", "alembic", "flask", "cachetools", "gevent", "prometheus_client"} == set()
