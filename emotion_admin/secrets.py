"""The folder of secrets, which the first start fills.

    broker/passwords        Mosquitto's password file, with the hash of every login
    broker/health-options   options for mosquitto_sub: the login of the broker's health check
    broker/server.crt, .key the broker's certificate and its key, if it has one
    daemon/password         the daemon's password, in a folder of its own: the daemon needs no other secret
    api/tokens              the API's bearer tokens, none at first

Only its owner and its folder's group can read a file. Dockerfile and scripts/install choose these users.
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
        """Create missing files, and return their paths. Existing files stay as they are.

        If a file with a password was lost, its login gets a new password: the old one cannot be read from its hash.
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
