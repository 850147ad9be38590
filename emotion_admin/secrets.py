"""The folder of secrets, which the first start fills.

    broker/dynamic-security.json  the broker's logins, with hashes, and their roles
    broker/health-options   options for mosquitto_sub: the login of the broker's health check
    broker/admin-password   the password of the login that changes logins in the running broker
    broker/server.crt, .key the broker's certificate and its key, if it has one
    broker/rabbitmq-definitions.json, erlang-cookie  with RabbitMQ: its own logins and policies, and its nodes' secret
    daemon/password         the daemon's password, in a folder of its own: the daemon needs no other secret
    api/tokens              the API's bearer tokens, none at first

Only its owner and its folder's group can read a file. Dockerfile and scripts/install choose these users.
"""

import json
import secrets
from pathlib import Path

from emotion_admin.files import write
from emotion_admin.logins import Logins
from emotion_admin.rabbitmq_rights import definitions
from emotion_admin.roles import ADMIN, DAEMON, HEALTH
from shared.batch import Topics


class Secrets:
    """The paths below `folder`, and the logins there, whose roles name `topics`."""

    def __init__(self, folder: Path, topics: Topics) -> None:
        self.folder = folder
        self.topics = topics
        self.dynamic_security = folder / "broker" / "dynamic-security.json"
        self.logins = Logins(self.dynamic_security, topics)
        self.admin_password = folder / "broker" / "admin-password"
        self.daemon_password = folder / "daemon" / "password"
        self.health_options = folder / "broker" / "health-options"
        self.certificate = folder / "broker" / "server.crt"
        self.key = folder / "broker" / "server.key"
        self.tokens = folder / "api" / "tokens"
        self.rabbitmq_definitions = folder / "broker" / "rabbitmq-definitions.json"
        self.erlang_cookie = folder / "broker" / "erlang-cookie"
        self._old_passwords = folder / "broker" / "passwords"

    def make_missing(self) -> list[Path]:
        """Create missing files, and return the paths of new and changed ones.

        A password file of an earlier version, or of its backup, replaces the logins. If a file with a password was
        lost, its login gets a new password: the old one cannot be read from its hash. Roles are written anew.
        """
        made = []
        if self._old_passwords.exists():
            self.logins.convert(self._old_passwords)
            made.append(self.dynamic_security)
        for name, path, line in (
            (DAEMON, self.daemon_password, "{}\n"),
            (HEALTH, self.health_options, _HEALTH),
            (ADMIN, self.admin_password, "{}\n"),
        ):
            if not path.exists() or name not in self.logins.names():
                password = self.logins.renew(name)
                write(path, line.format(password))
                made += [self.dynamic_security, path]
        if self.logins.write_roles():
            made.append(self.dynamic_security)
        if not self.tokens.exists():
            write(self.tokens, "")
            made.append(self.tokens)
        return list(dict.fromkeys(made))

    def make_rabbitmq(self) -> list[Path]:
        """Write the definitions anew, create a missing cookie, and return the paths of both."""
        passwords = {
            name: path.read_text(encoding="utf-8").strip()
            for name, path in ((DAEMON, self.daemon_password), (ADMIN, self.admin_password))
        }
        write(self.rabbitmq_definitions, json.dumps(definitions(passwords, self.topics)) + "\n")
        if not self.erlang_cookie.exists():
            write(self.erlang_cookie, secrets.token_hex(32))
        return [self.rabbitmq_definitions, self.erlang_cookie]


_HEALTH = f"-i {HEALTH}\n-u {HEALTH}\n-P {{}}\n"
