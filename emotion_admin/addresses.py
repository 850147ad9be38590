"""Print where daemon and API answer: `python -m emotion_admin.addresses`, in the folder with gunicorn.conf.py.

The settings and gunicorn say it themselves, by the variables of the environment. scripts/install and scripts/doctor
call it with those of the services.
"""

import os
import sys
from collections.abc import Iterator
from urllib.parse import quote

from gunicorn.app.wsgiapp import WSGIApplication

from shared.settings import Settings, SettingsError


def daemon_url(settings: Settings) -> str | None:
    """Return the URL at which this machine reaches the daemon; None if the daemon answers no HTTP."""
    return None if settings.daemon_http_address is None else _tcp_url(*settings.daemon_http_address)


def api_urls(arguments: str) -> list[str]:
    """Return the URLs at which this machine reaches gunicorn, started with GUNICORN_CMD_ARGS=`arguments`.

    A unix socket is http+unix:// with its path, quoted. Ends the process if gunicorn would refuse to start.
    """
    before = sys.argv, os.environ.get("GUNICORN_CMD_ARGS")
    sys.argv, os.environ["GUNICORN_CMD_ARGS"] = ["gunicorn", "emotion_api:create_app()"], arguments
    try:
        bound = WSGIApplication("%(prog)s").cfg.address
    except RuntimeError as error:  # an address that is none
        sys.exit(f"gunicorn cannot start: GUNICORN_CMD_ARGS={arguments}: {error}")
    finally:
        sys.argv = before[0]
        if before[1] is None:
            del os.environ["GUNICORN_CMD_ARGS"]
        else:
            os.environ["GUNICORN_CMD_ARGS"] = before[1]
    return [*_urls(bound)]


def _urls(bound: list[tuple[str, int] | str | int]) -> Iterator[str]:
    for address in bound:
        if isinstance(address, tuple):
            yield _tcp_url(*address)
        elif isinstance(address, str):
            yield f"http+unix://{quote(address, safe='')}"
        # A number is an inherited socket, of which gunicorn does not know the address.


def _tcp_url(host: str, port: int) -> str:
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def main() -> int:
    """Print a line for each address: `daemon URL`, `api URL`. Return 2 if a setting cannot work."""
    try:
        settings = Settings.from_environ(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    url = daemon_url(settings)
    lines = [f"api {url}" for url in api_urls(os.environ.get("GUNICORN_CMD_ARGS", ""))]
    print(*([f"daemon {url}"] if url else []), *lines, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
