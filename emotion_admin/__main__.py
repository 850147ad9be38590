"""`python -m emotion_admin`: the operator's commands. The scripts in scripts/ call them where the data lies.

Exit codes: 0 done, 1 for a failure or a problem that doctor found, 2 for an argument, a setting or a standard output
that cannot work.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from emotion_admin import backup, certificates, devices
from emotion_admin import commands as data_commands
from emotion_admin.errors import OperatorError
from emotion_admin.logins import Logins, check_device_login
from emotion_admin.secrets import Secrets
from emotion_admin.snippet import Address, snippet
from emotion_admin.tokens import Tokens
from emotion_daemon.storage.errors import DatabaseFileError
from shared.database import sqlite_path, writer_engine
from shared.printing import OutputError
from shared.settings import Settings, SettingsError


def main(arguments: list[str] | None = None) -> int:
    """Do what `arguments` ask for and return the exit code."""
    options = _parse(arguments)
    try:
        if options.run_with_secrets is None:
            code: int = options.run(options)
            return code
        os.umask(0o027)
        options.run_with_secrets(options, Secrets(options.secrets))
    except (SettingsError, OutputError) as error:
        print(f"emotion_admin: {error}", file=sys.stderr)
        return 2
    except (OperatorError, DatabaseFileError) as error:
        print(f"emotion_admin: {error}", file=sys.stderr)
        return 1
    except DBAPIError as error:
        text = str(error.orig).partition("\n")[0]
        print(f"emotion_admin: the database cannot be used: {text}; has the daemon started once?", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"emotion_admin: {error.filename}: {error.strerror}; run this as the user that owns it", file=sys.stderr)
        return 1
    return 0


def _make_secrets(options: argparse.Namespace, secrets: Secrets) -> None:
    for path in secrets.make_missing():
        print(f"made {path}")


def _add_device(options: argparse.Namespace, secrets: Secrets) -> None:
    logins = Logins(secrets.passwords)
    if options.renew:
        check_device_login(options.device_id)
    else:
        logins.check_new(options.device_id)
    if options.name is not None:
        with _database() as engine:
            devices.set_name(engine, options.device_id, options.name)
    password = (logins.renew if options.renew else logins.add)(options.device_id)
    print(snippet(options.device_id, password, Address(options.host, options.port, options.tls)))


def _list_devices(options: argparse.Namespace, secrets: Secrets) -> None:
    with _database() as engine:
        rows = devices.listed(engine, Logins(secrets.passwords).devices())
    if not rows:
        print("no device has a login, a name or a batch yet")
    names = _settings().device_names
    for row in rows:
        last = f"{row.last_batch:%Y-%m-%dT%H:%M:%SZ}" if row.last_batch else "no batch yet"
        name = row.name or names.get(row.device_id, "")
        print(f"{row.device_id:<24} {'login' if row.has_login else 'no login':<9} {last:<21} {name}".rstrip())


def _remove_device(options: argparse.Namespace, secrets: Secrets) -> None:
    Logins(secrets.passwords).remove(options.device_id)
    print(f"{options.device_id} may not connect any more; what it has sent stays in the database")


def _rename_device(options: argparse.Namespace, secrets: Secrets) -> None:
    with _database() as engine:
        devices.set_name(engine, options.device_id, options.name)
    print(f"{options.device_id} is {options.name} now")


def _check_that_tokens_count() -> None:
    if os.environ.get("EMOTION_API_TOKEN", "").strip():
        raise OperatorError("EMOTION_API_TOKEN is set, and no other token counts: take it out of the settings first")


def _add_token(options: argparse.Namespace, secrets: Secrets) -> None:
    _check_that_tokens_count()
    print(Tokens(secrets.tokens).add(options.name))


def _list_tokens(options: argparse.Namespace, secrets: Secrets) -> None:
    names = Tokens(secrets.tokens).names()
    if names:
        print("\n".join(names))
    _warn_if_open(secrets)


def _warn_if_open(secrets: Secrets) -> None:
    if not Tokens(secrets.tokens).names():
        print("there is no token: the API answers everybody who can reach it", file=sys.stderr)


def _remove_token(options: argparse.Namespace, secrets: Secrets) -> None:
    _check_that_tokens_count()
    Tokens(secrets.tokens).remove(options.name, last=options.last)
    _warn_if_open(secrets)


def _install_certificate(options: argparse.Namespace, secrets: Secrets) -> None:
    certificates.install(secrets, sys.stdin.read())


def _remove_certificate(options: argparse.Namespace, secrets: Secrets) -> None:
    certificates.remove(secrets)


def _save(options: argparse.Namespace, secrets: Secrets) -> None:
    database = sqlite_path(_settings().database_url)
    backup.save(sys.stdout.buffer, secrets, database)
    if database is None:
        print("the database is PostgreSQL's and is not in this backup: pg_dump makes one", file=sys.stderr)


def _restore(options: argparse.Namespace, secrets: Secrets) -> None:
    for name in backup.restore(sys.stdin.buffer, secrets, sqlite_path(_settings().database_url)):
        print(f"restored {name}")
    _warn_if_open(secrets)


def _check_backup(options: argparse.Namespace, secrets: Secrets) -> None:
    backup.check(sys.stdin.buffer)


def _settings() -> Settings:
    """Read only where they are needed: a wrong one must not keep the broker from its secrets. Raises SettingsError."""
    return Settings.from_environ(os.environ)


@contextmanager
def _database() -> Iterator[Engine]:
    settings = _settings()
    path = sqlite_path(settings.database_url)
    if path is not None and not path.exists():  # a writer would make an empty one
        raise OperatorError(f"there is no database at {path} yet: start the daemon once")
    engine = writer_engine(settings.database_url, echo=settings.sql_echo)
    try:
        yield engine
    finally:
        engine.dispose()


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m emotion_admin", description=__doc__.partition("\n")[0])
    parser.add_argument("--secrets", type=Path, metavar="DIR", help="the folder of secrets, if the command uses it")
    parser.set_defaults(run_with_secrets=None)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    command = commands.add_parser("secrets", help="make what is missing, as at the first start")
    command.set_defaults(run_with_secrets=_make_secrets)

    device = commands.add_parser("device", help="the devices' logins and names", prog="scripts/device")
    actions = device.add_subparsers(metavar="add|list|remove|rename", required=True)
    command = actions.add_parser("add", help="make a login, and print what the device needs")
    command.add_argument("device_id", help="1 to 64 of A-Z a-z 0-9 . _ -")
    command.add_argument("--name", help='what the dashboard shows, like "Entrance Camera"')
    command.add_argument("--renew", action="store_true", help="give a login that is there already a new password")
    command.add_argument("--host", default="localhost", help="what the device calls the broker's machine")
    command.add_argument("--port", type=int, default=1883, help=argparse.SUPPRESS)
    command.add_argument("--tls", action="store_true", help=argparse.SUPPRESS)
    command.set_defaults(run_with_secrets=_add_device)
    command = actions.add_parser("list", help="everybody who has a login, a name or a batch")
    command.set_defaults(run_with_secrets=_list_devices)
    command = actions.add_parser("remove", help="take the login away; a live connection ends")
    command.add_argument("device_id")
    command.set_defaults(run_with_secrets=_remove_device)
    command = actions.add_parser("rename", help="change what the dashboard shows")
    command.add_argument("device_id")
    command.add_argument("name")
    command.set_defaults(run_with_secrets=_rename_device)

    token = commands.add_parser("token", help="the API's bearer tokens", prog="scripts/token")
    actions = token.add_subparsers(metavar="add|list|remove", required=True)
    command = actions.add_parser("add", help="make a token and print it, this once")
    command.add_argument("name", help="whose it is, like dashboard")
    command.set_defaults(run_with_secrets=_add_token)
    command = actions.add_parser("list", help="whose tokens there are")
    command.set_defaults(run_with_secrets=_list_tokens)
    command = actions.add_parser("remove", help="make a token invalid")
    command.add_argument("name")
    command.add_argument("--last", action="store_true", help="also if it is the last: the API is open then")
    command.set_defaults(run_with_secrets=_remove_token)

    command = commands.add_parser("certificate", help="the certificate that devices see")
    actions = command.add_subparsers(metavar="install|remove", required=True)
    command = actions.add_parser("install", help="install the certificate and key from standard input, as PEM")
    command.set_defaults(run_with_secrets=_install_certificate)
    command = actions.add_parser("remove", help="remove certificate and key")
    command.set_defaults(run_with_secrets=_remove_certificate)
    command = commands.add_parser("backup", help="write database and secrets to standard output, as tar")
    command.set_defaults(run_with_secrets=_save)
    command = commands.add_parser("check-backup", help="whether standard input is a whole backup")
    command.set_defaults(run_with_secrets=_check_backup)
    command = commands.add_parser("restore", help="put a backup from standard input in place")
    command.set_defaults(run_with_secrets=_restore)
    data_commands.add_to(commands)
    options = parser.parse_args(arguments)
    if options.run_with_secrets is not None and options.secrets is None:
        parser.error("this command needs --secrets DIR")
    return options


if __name__ == "__main__":
    sys.exit(main())
