"""The operator's commands: `python -m emotion_admin COMMAND`. This module has their arguments and exit codes.

Exit codes: 0 done; 1 not done, or doctor found a problem; 2 an argument, a setting or standard output that cannot work.
"""

import argparse
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from emotion_admin import commands
from emotion_admin.broker import Address
from emotion_admin.doctor.permissions import User
from emotion_admin.doctor.services import Service
from emotion_admin.doctor.sqlite_files import user
from emotion_admin.errors import OperatorError
from emotion_daemon.storage.errors import DatabaseFileError
from shared.batch import DEVICE_ID, MAX_PERSON_ID, is_person_id
from shared.printing import OutputError
from shared.settings import SettingsError, is_host
from shared.tokens import VIEWS

_MAX_HOURS = 87_600


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parse(arguments)
    try:
        code: int | None = options.run(options)
        return code or 0
    except (SettingsError, OutputError) as error:
        return _fail(2, str(error))
    except (OperatorError, DatabaseFileError) as error:
        return _fail(1, str(error))
    except PermissionError as error:
        return _fail(1, f"{error.filename}: {error.strerror}; run this command as the user that owns it")
    except OSError as error:  # mostly a full disk, also that of the file to which a script leads standard output
        place = f"{error.filename}: " if error.filename else ""
        return _fail(1, f"{place}{error.strerror}; correct this and run the same command again")
    except KeyboardInterrupt:
        return _fail(1, "interrupted; run the same command again")


def _fail(code: int, sentence: str) -> int:
    print(f"emotion_admin: {sentence}", file=sys.stderr)
    return code


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of every command."""
    parser = argparse.ArgumentParser(prog="python -m emotion_admin", description="The operator's commands.")
    parser.add_argument("--secrets", type=Path, metavar="DIR", help="the folder of secrets, for commands that need it")
    parser.add_argument(
        "--broker",
        action="append",
        default=[],
        type=_broker,
        metavar="HOST:PORT",
        help="the broker to tell of changed logins, if it is running; may be repeated, for each broker of a cluster",
    )
    parser.set_defaults(needs_secrets=True)
    group = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_secrets(group)
    _add_device(group.add_parser("device", help="logins and names of devices", prog="scripts/device"))
    _add_token(group.add_parser("token", help="bearer tokens of the API", prog="scripts/token"))
    _add_certificate(group.add_parser("certificate", help="the broker's certificate"))
    _add(group, "backup", commands.save_backup, "write database and secrets to standard output, as tar")
    _add(
        group,
        "check-backup",
        commands.check_backup,
        "check a backup on standard input, and print what it would restore",
    )
    _add(group, "restore", commands.restore_backup, "restore a backup from standard input")
    _add_copy(
        _add(group, "copy-database", commands.copy_database, "copy all data to an empty database, while no daemon runs")
    )
    _add_dead_letters(
        group.add_parser(
            "dead-letters", help="list, show, replay or delete invalid messages", prog="scripts/dead-letters"
        )
    )
    _add_person(group.add_parser("person", help="erase a person, or export the stored data of one"))
    _add_doctor(_add(group, "doctor", commands.run_doctor, "find faults and give advice; changes nothing"))
    _add(group, "test-webhook", commands.test_webhook, "post a test alert").set_defaults(needs_secrets=False)
    _add(group, "docs", commands.list_documents, "print where the documents are").set_defaults(needs_secrets=False)
    return parser


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser()
    options = parser.parse_args(arguments)
    if options.needs_secrets:
        if options.secrets is None:
            parser.error("this command needs --secrets DIR")
        os.umask(0o027)
    return options


_Group: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _add(
    group: _Group, name: str, run: Callable[[argparse.Namespace], int | None], text: str
) -> argparse.ArgumentParser:
    parser = group.add_parser(name, help=text, description=text, allow_abbrev=False)
    parser.set_defaults(run=run)
    return parser


def _add_secrets(group: _Group) -> None:
    parser = _add(group, "secrets", commands.make_secrets, "create missing secrets, as at the first start")
    parser.add_argument(
        "--open-copy",
        type=Path,
        metavar="FILE",
        help="also write a copy of the logins that allows everything to clients without a login. scripts/run passes it",
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    group = parser.add_subparsers(metavar="add|list|remove|rename", required=True)
    command = _add(group, "add", commands.add_device, "create a login and print what the device needs")
    command.add_argument("device_id", help="1 to 64 of A-Z a-z 0-9 . _ : -")
    command.add_argument("--name", help='the name on the dashboard, like "Entrance Camera"')
    command.add_argument("--renew", action="store_true", help="give an existing login a new password")
    command.add_argument(
        "--host", type=_host, default="localhost", help="the broker's name or address, as the device reaches it"
    )
    command.add_argument("--port", type=int, default=1883, help=argparse.SUPPRESS)
    command.add_argument("--tls", action="store_true", help=argparse.SUPPRESS)
    _add(group, "list", commands.list_devices, "list all devices that have a login, a name or a batch")
    command = _add(group, "remove", commands.remove_device, "delete a login, and the device's session in the broker")
    command.add_argument("device_id", help="the device whose login ends")
    command = _add(group, "rename", commands.rename_device, "change a device's name on the dashboard")
    command.add_argument("device_id", help="the device that gets the name")
    command.add_argument("name", help='the name on the dashboard, like "Back door"')


def _add_token(parser: argparse.ArgumentParser) -> None:
    group = parser.add_subparsers(metavar="add|list|remove", required=True)
    command = _add(group, "add", commands.add_token, "create a token and print it, once")
    command.add_argument("name", help="the token's user, like dashboard")
    command.add_argument(
        "--devices", type=_device_ids, metavar="IDS", help="the only devices it may read, separated by commas"
    )
    command.add_argument(
        "--views", type=_views, help=f"the only views it may read, separated by commas: {', '.join(VIEWS)}"
    )
    _add(group, "list", commands.list_tokens, "list the names of the tokens")
    command = _add(group, "remove", commands.remove_token, "make a token invalid")
    command.add_argument("name", help="the token's user")
    command.add_argument("--last", action="store_true", help="also if it is the last one, which makes the API public")


def _add_certificate(parser: argparse.ArgumentParser) -> None:
    group = parser.add_subparsers(metavar="install|remove", required=True)
    _add(
        group,
        "install",
        commands.install_certificate,
        "check and install certificate and key from standard input, as PEM",
    )
    _add(group, "remove", commands.remove_certificate, "remove certificate and key")


def _add_dead_letters(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(needs_secrets=False)
    group = parser.add_subparsers(metavar="list|show|replay|delete", required=True)
    command = _add(group, "list", commands.list_dead_letters, "list invalid messages, newest first")
    command.add_argument("--limit", type=_count, default=20, help="how many to list (default 20)")
    command.add_argument("--bytes", type=_count, default=120, help="how much of each payload to show (default 120)")
    command = _add(group, "show", commands.show_dead_letter, "print the stored payload of one invalid message")
    command.add_argument("id", type=_count, help="the number at the beginning of its line in the list")
    _add(group, "replay", commands.replay_dead_letters, "decode invalid messages again and store the valid ones")
    command = _add(group, "delete", commands.delete_dead_letters, "delete the invalid messages of one device")
    command.add_argument("device_id", help="the device whose invalid messages are deleted")


def _add_copy(parser: argparse.ArgumentParser) -> None:
    parser.prog = "scripts/copy-database"
    parser.set_defaults(needs_secrets=False)
    parser.add_argument(
        "--to",
        type=_from_input,
        metavar="URL",
        required=True,
        help="the other database, as in EMOTION_DATABASE_URL; - reads it from standard input, because other users can "
        "see a command line",
    )


def _add_person(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(needs_secrets=False)
    group = parser.add_subparsers(metavar="forget|export", required=True)
    forget = _add(group, "forget", commands.forget_person, "erase the person")
    export = _add(group, "export", commands.export_person, "print the stored data of the person, as JSON")
    for command in (forget, export):
        command.add_argument("--device", type=_device_id, required=True, help="the device that saw the person")
        command.add_argument(
            "--person", type=_person_id, required=True, help="the person_id; - reads it from standard input"
        )
    forget.add_argument(
        "--hours",
        type=_hours,
        default=24.0,
        help="omit the person from batches with timestamps up to this many hours from now (default 24)",
    )


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(needs_secrets=False)
    parser.prog = "scripts/doctor"
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--thorough", action="store_true", help="also read the whole SQLite file to find damage")
    parser.add_argument(
        "--api-user", type=_user, metavar="USER", help="the API's user, as name or number (default: the daemon's)"
    )
    parser.add_argument(
        "--api",
        action="append",
        default=[],
        metavar="URL",
        help="also check the API, like http://127.0.0.1:8000; may be repeated, for each of its addresses",
    )
    parser.add_argument(
        "--devices-certificate",
        metavar="PEM",
        help="the certificates that the broker sends on the devices' port; empty if the port does not answer with TLS. "
        "scripts/doctor passes them",
    )
    parser.add_argument(
        "--service",
        action="append",
        default=[],
        type=_service,
        metavar="STATE",
        help="the state of a service: its name, state, number of restarts and exit code. scripts/doctor passes it",
    )
    parser.add_argument(
        "--logins",
        metavar="IDS",
        help="the devices that have a login, separated by white space; ? if they cannot be read. scripts/doctor passes "
        "them",
    )
    parser.add_argument(
        "--unread",
        action="append",
        default=[],
        metavar="NAME",
        help="a name in .env that docker compose gives to no service. scripts/doctor passes it",
    )
    parser.add_argument(
        "--set-aside",
        action="append",
        default=[],
        metavar="FILE",
        help="a damaged file of the broker that was set aside; ? if they cannot be listed. scripts/doctor passes it",
    )
    parser.add_argument(
        "--log-in", action="store_true", help="log in to the broker as the daemon: say so only if no daemon runs"
    )


def _user(text: str) -> User:
    try:
        return user(text)
    except OperatorError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _broker(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not like 127.0.0.1:1883")
    return Address(host, int(port))


def _host(text: str) -> str:
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not host or not is_host(host):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name or an address, without scheme and port")
    return host


def _service(text: str) -> Service:
    try:
        return Service.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 'mosquitto running/healthy 0 0'") from error


def _device_id(text: str) -> str:
    if not DEVICE_ID.fullmatch(text):
        raise argparse.ArgumentTypeError("a device_id has 1 to 64 of A-Z a-z 0-9 . _ : -")
    return text


def _device_ids(text: str) -> list[str]:
    return [_device_id(each.strip()) for each in text.split(",")]


def _views(text: str) -> list[str]:
    views = [each.strip() for each in text.split(",")]
    if not set(views) <= set(VIEWS):
        raise argparse.ArgumentTypeError(f"views are some of {', '.join(VIEWS)}")
    return views


def _person_id(text: str) -> str:
    """Read the id from standard input if `text` is -: other users, shell history and journals see a command line."""
    text = _from_input(text, prompt="person")
    if not is_person_id(text):
        raise argparse.ArgumentTypeError(f"a person_id has 1 to {MAX_PERSON_ID} characters, no control characters")
    return text


def _from_input(text: str, *, prompt: str = "URL") -> str:
    """Read a line of standard input if `text` is -."""
    if text != "-":
        return text
    if sys.stdin.isatty():
        print(f"{prompt}: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().rstrip("\r\n")


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 <= hours <= _MAX_HOURS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {_MAX_HOURS:,}")
    return hours


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 999999999")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
