"""The folder of secrets: what lies where, and what is made at the first start.

    broker/passwords        Mosquitto's password file: hashes, also the devices'
    daemon/password         the daemon's own, apart from the others: it needs no more
    broker/health-options   options for mosquitto_sub: the login of the broker's health check
    broker/server.crt, .key the broker's certificate and its key, if it has one
    api/tokens              the API's bearer tokens, none at first

Each file can be read by its owner and by its folder's group, and by nobody else; Dockerfile and scripts/install say who
that is.
"""

from pathlib import Path

from emotion_admin.files import write
from emotion_admin.logins import DAEMON, HEALTH, Logins


class Secrets:
    """The paths below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.passwords = folder / "broker" / "passwords"
        self.daemon_password = folder / "daemon" / "password"
        self.health_options = folder / "broker" / "health-options"
        self.certificate = folder / "broker" / "server.crt"
        self.key = folder / "broker" / "server.key"
        self.tokens = folder / "api" / "tokens"

    def make_missing(self) -> list[Path]:
        """Make what is not there, and return its paths. What is there stays as it is.

        A login whose password file was lost gets a new password: nobody could tell the old one.
        """
        made = []
        for name, path, line in ((DAEMON, self.daemon_password, "{}\n"), (HEALTH, self.health_options, _HEALTH)):
            logins = Logins(self.passwords)
            if not path.exists() or name not in logins.names():
                password = logins.renew(name)
                write(path, line.format(password))
                made += [self.passwords, path]
        if not self.tokens.exists():
            write(self.tokens, "")
            made.append(self.tokens)
        return list(dict.fromkeys(made))


_HEALTH = f"-i {HEALTH}\n-u {HEALTH}\n-P {{}}\n"
