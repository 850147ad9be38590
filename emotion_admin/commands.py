"""The commands that read or change the data, `doctor`, `person` and `dead-letters`: their arguments and their output.

The modules of the same names do the work. Each command returns an exit code: see `emotion_admin/__main__.py`.
"""

import argparse
import json
import math
import os
import ssl
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from emotion_admin import dead_letters, doctor, health, person
from emotion_admin.doctor import finding
from emotion_admin.doctor.permissions import User
from emotion_admin.doctor.sqlite_files import UnknownUserError, user
from emotion_admin.purge import NotPurgedError, purge
from emotion_daemon.monitoring.log_handler import configure_logging
from emotion_daemon.storage.errors import outage_kind, reason
from shared.batch import DEVICE_ID, MAX_PERSON_ID, Topics, is_person_id
from shared.database import check_location, reader_engine, sqlite_path, writer_engine
from shared.printing import printing
from shared.settings import Settings

_MAX_HOURS = 87_600


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to the parser of `python -m emotion_admin`."""
    _add_dead_letters(commands.add_parser("dead-letters", help="list or replay the invalid messages"))
    _add_person(commands.add_parser("person", help="erase a person, or export what is stored of one"))
    _add_doctor(commands.add_parser("doctor", help="say what is wrong, and what to do about it; changes nothing"))


def _add_dead_letters(command: argparse.ArgumentParser) -> None:
    verbs = command.add_subparsers(required=True, metavar="list | replay")
    verb = verbs.add_parser("list", help="list the newest invalid messages, newest first")
    verb.add_argument("--limit", type=_count, default=20, help="how many to list (default 20)")
    verb.add_argument("--bytes", type=_count, default=120, help="how much of each payload to show (default 120)")
    verb.set_defaults(run=_run_on_data, action=_list, writes=False)
    verb = verbs.add_parser("replay", help="decode every invalid message again, and store those that are valid now")
    verb.set_defaults(run=_run_on_data, action=_replay, writes=True)


def _add_person(command: argparse.ArgumentParser) -> None:
    verbs = command.add_subparsers(required=True, metavar="forget | export")
    for name, action, what in (("forget", _forget, "erase the person"), ("export", _export, "export it as JSON")):
        verb = verbs.add_parser(name, help=what, allow_abbrev=False)
        verb.add_argument("--device", type=_device_id, required=True, help="the device that has seen the person")
        verb.add_argument(
            "--person", type=_person_id, required=True, help="the person_id; - reads it from standard input"
        )
        if name == "forget":
            verb.add_argument(
                "--hours",
                type=_hours,
                default=24.0,
                help="also omit the person from batches with timestamps within so many hours from now (default 24)",
            )
        verb.set_defaults(run=_run_on_data, action=action, writes=action is _forget)


def _run_on_data(options: argparse.Namespace) -> int:
    """Run `options.action` with the settings, after a check that the database is there.

    Raises SettingsError and OutputError.
    """
    if not _read_person(options):
        return 2
    settings = Settings.from_environ(os.environ)
    path = sqlite_path(settings.database_url)
    if path is not None:
        check_location(path, writing=options.writes)
    configure_logging(settings)
    if path is not None and not path.exists():  # a writer would create an empty one
        return cannot_use(settings, "there is no such file")
    action: Callable[[Settings, argparse.Namespace], int] = options.action
    return action(settings, options)


def _add_doctor(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print the findings as JSON")
    command.add_argument(
        "--thorough", action="store_true", help="also read all of an SQLite file, to see that it is whole"
    )
    command.add_argument(
        "--api-user", type=_user, metavar="USER", help="whom the API runs as, name or number (default: as the daemon)"
    )
    command.add_argument(
        "--api", type=_url, metavar="URL", help="also ask the API whether it works, like http://127.0.0.1:8000"
    )
    command.add_argument(
        "--devices-certificate",
        type=_certificate_end,
        metavar="DATE",
        help="when the certificate ends that devices see, as openssl x509 -enddate prints it; empty: their port does "
        "not answer with TLS. scripts/doctor looks, and says it",
    )
    command.add_argument(
        "--unread",
        action="append",
        default=[],
        metavar="NAME",
        help="a name in docker compose's .env that it hands to nobody; scripts/doctor looks, and says it",
    )
    command.add_argument(
        "--log-in",
        action="store_true",
        help="no daemon runs: log in to the broker as it would, where that cannot be told",
    )
    command.set_defaults(run=_run_doctor)


def _user(text: str) -> User:
    try:
        return user(text)
    except UnknownUserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _url(text: str) -> str:
    if health.parse(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not like http://127.0.0.1:8000")
    return text


def _certificate_end(text: str) -> str:
    try:
        if text:
            ssl.cert_time_to_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 'Jan  1 00:00:00 2030 GMT'") from error
    return text


_NO_PERSON_ID = f"has no person_id: that is 1 to {MAX_PERSON_ID} characters without control characters"


def _device_id(text: str) -> str:
    if not DEVICE_ID.fullmatch(text):
        raise argparse.ArgumentTypeError("is no device_id: that is 1 to 64 of A-Z a-z 0-9 . _ : -")
    return text


def _person_id(text: str) -> str:
    if not is_person_id(text):
        raise argparse.ArgumentTypeError(_NO_PERSON_ID)
    return text


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 <= hours <= _MAX_HOURS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours from 0 to {_MAX_HOURS:,}")
    return hours


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 999999999")
    return int(text)


def _run_doctor(options: argparse.Namespace) -> int:
    """Print each finding as soon as it is there, or all of them as JSON. Raises SettingsError and OutputError."""
    settings = Settings.from_environ(os.environ)
    findings = []
    examined = doctor.examine(
        settings,
        api_user=options.api_user,
        api_url=options.api,
        devices_certificate=options.devices_certificate,
        unread=options.unread,
        thorough=options.thorough,
        log_in=options.log_in,
    )
    for found in examined:
        findings.append(found)
        if not options.json:
            with printing():
                print(finding.as_text(found))
    with printing():
        print(finding.as_json(findings) if options.json else finding.count(findings))
    return finding.exit_code(findings)


def _list(settings: Settings, options: argparse.Namespace) -> int:
    """Only reads: it works beside a daemon, and beside a database that somebody has locked."""
    engine = reader_engine(settings.database_url, echo=settings.sql_echo)
    try:
        rows = dead_letters.newest(engine, limit=options.limit)
    except DBAPIError as error:
        return cannot_use(settings, reason(error), outage_kind(error, engine))
    finally:
        engine.dispose()
    with printing():
        for row in rows:
            print(f"{row.id}  {row.received_at:%Y-%m-%dT%H:%M:%SZ}  {row.topic}  {row.payload_size} bytes")
            print(f"    {row.reason}")
            print(f"    {row.payload[: options.bytes]!r}" if row.payload or not row.payload_size else "    not kept")
        if not rows:
            print(f"no rejected messages in {_shown(settings)}")
    return 0


def _replay(settings: Settings, options: argparse.Namespace) -> int:
    engine = writer_engine(settings.database_url, echo=settings.sql_echo)
    stored = left = 0
    try:
        for replayed in dead_letters.replay(
            engine, Topics(settings.mqtt_topic_prefix), totals_only=settings.totals_only
        ):
            stored += replayed.reason is None
            left += replayed.reason is not None
            with printing():
                how = "stored" if replayed.reason is None else f"still rejected: {replayed.reason}"
                print(f"{replayed.id}  {replayed.topic}  {how}")
    except DBAPIError as error:
        return cannot_use(settings, reason(error), outage_kind(error, engine))
    finally:
        engine.dispose()
    with printing():
        print(f"{stored} stored, {left} still rejected")
    return 0


def _forget(settings: Settings, options: argparse.Namespace) -> int:
    """Erase the person. It never prints the person's id: its output may end up in a log."""
    who, topics = person.Person(options.device, options.person), Topics(settings.mqtt_topic_prefix)
    engine = writer_engine(settings.database_url, echo=settings.sql_echo)
    erased = not_purged = None
    try:
        erased = person.forget(engine, topics, who, hours=options.hours, now=datetime.now(UTC))
        purge(engine)
    except DBAPIError as error:
        then = "nobody was erased" if erased is None else ""
        return cannot_use(settings, reason(error), outage_kind(error, engine), then=then)
    except NotPurgedError as error:
        not_purged = _not_purged(settings, str(error))
    except KeyboardInterrupt:
        why = "it was interrupted"
        not_purged = f"{why}; run the same command again" if erased is None else _not_purged(settings, why)
    finally:
        engine.dispose()
    mistake = erased.mistake if erased is not None else None
    for sentence in filter(None, (mistake, not_purged)):
        print(f"emotion_admin: {sentence}", file=sys.stderr)
    with printing():  # last: whether anybody reads it must not matter
        if erased is not None:
            _print_erased(who, erased, is_done=not not_purged and not mistake)
    return 1 if not_purged or mistake else 0


def _print_erased(who: person.Person, erased: person.Erased, *, is_done: bool) -> None:
    people = "1 person" if erased.people else "no person"
    print(f"{who.device_id}: deleted {people}, and the payloads of {erased.dead_letters} dead letters")
    if erased.behind:
        hours = erased.behind.total_seconds() / 3600
        print(f"this machine's clock is {hours:.1f} h behind the newest batch of {who.device_id}: check both clocks")
    print(f"the daemon omits this person from batches with timestamps up to {erased.until:%Y-%m-%dT%H:%M:%SZ}")
    if is_done:
        print("docker compose: once the daemon has stored the queued messages, restart the broker;")
        print("until then its files contain the person's data")
        print("backups contain the person, too: see docs/PRIVACY.md")


def _not_purged(settings: Settings, why: str) -> str:
    return (
        f"what was deleted may still stand in the files of {_shown(settings)}: {why}; "
        "run the same command again when that is over"
    )


def _export(settings: Settings, options: argparse.Namespace) -> int:
    """Print what is stored of the person as JSON. Like `_list` it only reads."""
    who, topics = person.Person(options.device, options.person), Topics(settings.mqtt_topic_prefix)
    engine = reader_engine(settings.database_url, echo=settings.sql_echo)
    try:
        found = person.export(engine, topics, who)
    except DBAPIError as error:
        return cannot_use(settings, reason(error), outage_kind(error, engine))
    finally:
        engine.dispose()
    with printing():
        print(json.dumps(found, indent=2, ensure_ascii=False))
    if found["person_emotion"] is None:
        print(f"no person of that id is stored for {who.device_id} in {_shown(settings)}", file=sys.stderr)
    return 0


def _read_person(options: argparse.Namespace) -> bool:
    """Where it is -, from standard input: every user sees a command line, and journals and the shell's history keep it.

    Whether what has come is a person_id; says so on standard error where it is none.
    """
    if getattr(options, "person", None) != "-":
        return True
    if sys.stdin.isatty():
        print("person: ", end="", file=sys.stderr, flush=True)
    options.person = sys.stdin.readline().rstrip("\r\n")
    if not is_person_id(options.person):
        print(f"emotion_admin: standard input {_NO_PERSON_ID}", file=sys.stderr)
        return False
    return True


_ADVICE = {
    "locked": "another program holds its lock: close that one, and run the same command again",
    "full": "make room on its disk, and run the same command again",
    "unreadable": "run this as the daemon's user, which may write the file and in its folder",
    "unreachable": "is PostgreSQL running, and does it take the login? EMOTION_DATABASE_URL has to be the daemon's",
}


def cannot_use(settings: Settings, reason: str, kind: str = "other", *, then: str = "") -> int:
    """Say why on standard error, what came of it (`then`), and what to do about trouble of this kind."""
    advice = _ADVICE.get(kind, "EMOTION_DATABASE_URL has to be the running daemon's")
    sentences = [f"cannot use {_shown(settings)}: {reason}", then, advice]
    print(f"emotion_admin: {'; '.join(filter(None, sentences))}", file=sys.stderr)
    return 1


def _shown(settings: Settings) -> str:
    return make_url(settings.database_url).render_as_string(hide_password=True)
