"""The recipes of docs/operate/proxies.md, run by the proxies that Debian has."""

import base64
import json
import re
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin

import pytest

from tests.certificates import make_certificate
from tests.databases import make_tables
from tests.processes import ROOT
from tests.waiting import DEADLINE_SECONDS, free_port, wait_until
from tests.web import Answer, Api, ask

HOST = "cams.example.com"
PASSWORD = "open-sesame"
TOKEN = "a-token-of-the-tests-0123"
LOGIN = f"Basic {base64.b64encode(f'anna:{PASSWORD}'.encode()).decode()}"
DEVICES = "/emotions/api/devices"
SUMMARY = "/emotions/api/dashboard/summary"

ETAGS = {"nginx": r'W/"\w+"', "apache": r'"\w+-gzip"'}

APACHE_MODULES = (
    *("mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic", "alias", "headers", "ssl"),
    *("socache_shmcb", "proxy", "proxy_http", "filter", "deflate"),
)
APACHE = "\n".join(
    (
        "ServerName localhost",
        'PidFile "{folder}/apache.pid"',
        'DefaultRuntimeDir "{folder}"',
        'ErrorLog "{folder}/apache.log"',
        "Listen 127.0.0.1:{port}",
        *(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in APACHE_MODULES),
        "<IfModule !unixd_module>\nLoadModule unixd_module /usr/lib/apache2/modules/mod_unixd.so\n</IfModule>",
        "User www-data\nGroup www-data",
        "AddOutputFilterByType DEFLATE application/json",
        "{recipe}",
    )
)
NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ }}
http {{
    access_log off;
    gzip on;
    gzip_types application/json;
    gzip_min_length 1;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {recipe}
}}
"""
CADDY = """
{{
    admin off
    auto_https disable_redirects
    storage file_system {folder}/caddy
    skip_install_trust
}}
{recipe}
"""


class Program(NamedTuple):
    """A proxy: its command, the configuration around the recipe, and the command that hashes a password."""

    command: tuple[str, ...]
    around: str
    hasher: tuple[str, ...]


APR1 = ("openssl", "passwd", "-apr1", PASSWORD)
PROGRAMS = {
    "nginx": Program(("/usr/sbin/nginx", "-e", "stderr", "-c"), NGINX, APR1),
    "apache": Program(("/usr/sbin/apache2", "-DFOREGROUND", "-f"), APACHE, APR1),
    "haproxy": Program(("/usr/sbin/haproxy", "-db", "-f"), "{recipe}", ("openssl", "passwd", "-5", PASSWORD)),
    "caddy": Program(
        ("/usr/bin/caddy", "run", "--adapter", "caddyfile", "--config"),
        CADDY,
        ("/usr/bin/caddy", "hash-password", "--plaintext", PASSWORD),
    ),
}


class Site(NamedTuple):
    """A proxy with the API behind it."""

    name: str
    port: int

    def ask(self, path: str, **headers: str) -> Answer:
        """One request as a browser with another certificate store sends it."""
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=15, context=_trusting())
        try:
            return ask(connection, path, method="GET", Host=HOST, **headers)
        finally:
            connection.close()


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def recipe_of(name: str) -> str:
    """Return the recipe's block of code in the document."""
    text = (ROOT / "docs/operate/proxies.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(rf"^```{name}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return str(recipe)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("api")
    url = f"sqlite:///{folder}/emotion.db"
    make_tables(url)
    with Api(url, folder / "api.log", EMOTION_API_TOKEN=TOKEN) as api:
        yield api


@pytest.fixture(scope="module", params=PROGRAMS)
def site(request: pytest.FixtureRequest, api: Api) -> Iterator[Site]:
    """A recipe with this test's ports, certificate, password and token."""
    folder = Path(tempfile.mkdtemp(prefix=f"emotion-{request.param}-"))
    folder.chmod(0o755)  # the proxy's own user reads there; pytest's folders are closed to it
    program, port = PROGRAMS[request.param], free_port()
    assert shutil.which(program.command[0]), f"the tests need {request.param}: scripts/test installs it"
    config = folder / "config"
    config.write_text(program.around.format(folder=folder, port=port, recipe=_own(request.param, folder, port, api)))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*program.command, str(config)], stdout=log, stderr=log, cwd=folder)
    site = Site(request.param, port)
    try:
        wait_until(lambda: process.poll() is not None or _answers(site), what=f"{request.param} answers")
        assert process.poll() is None, f"{request.param} has ended"
        yield site
    except AssertionError as error:
        error.add_note((folder / "log").read_text())
        raise
    finally:
        process.terminate()
        process.wait(timeout=DEADLINE_SECONDS)
        shutil.rmtree(folder)


def _own(name: str, folder: Path, port: int, api: Api) -> str:
    certificate = make_certificate(folder / "certificates", HOST)
    password = subprocess.run(PROGRAMS[name].hasher, check=True, capture_output=True, text=True).stdout.strip()
    users = folder / "users"
    users.write_text(f"anna:{password}\n")
    both = folder / "both.pem"
    both.write_text(certificate.certificate.read_text() + certificate.key.read_text())
    recipe = recipe_of(name)
    if name == "caddy":
        recipe = recipe.replace(
            f"{HOST} {{", f"https://{HOST}:{port} {{\n    tls {certificate.certificate} {certificate.key}", 1
        )
    for there, here in {
        "127.0.0.1:8000": f"127.0.0.1:{api.port}",
        "*:443": f"127.0.0.1:{port}",
        "bind :443": f"bind 127.0.0.1:{port}",
        "listen 443": f"listen 127.0.0.1:{port}",
        "/etc/ssl/cams/fullchain.pem": str(certificate.certificate),
        "/etc/ssl/cams/privkey.pem": str(certificate.key),
        "/etc/haproxy/cams.pem": str(both),
        "/etc/nginx/emotions.users": str(users),
        "/etc/apache2/emotions.users": str(users),
        "PASSWORD_HASH": password,
        "TOKEN": TOKEN,
    }.items():
        recipe = recipe.replace(there, here)
    return recipe


def _answers(site: Site) -> bool:
    try:
        return site.ask("/emotions/dashboard", Authorization=LOGIN).status == 200
    except OSError:
        return False


def test_without_the_login_the_proxy_answers_and_asks_for_it(site: Site) -> None:
    answer = site.ask("/emotions/dashboard")

    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize(
    "path", ["dashboard", "dashboard/assets/main.js", "docs", "redoc", "openapi.json", "api/devices", "readyz"]
)
def test_the_login_opens_pages_and_data(path: str, site: Site) -> None:
    assert site.ask(f"/emotions/{path}", Authorization=LOGIN).status == 200


def test_unchanged_data_are_not_sent_again(site: Site) -> None:
    """A short response, which the API does not compress. Here nginx and Apache do, each with its own entity tag.

    Apache leaves out responses of less than 70 bytes, like the list of no devices, if they arrive in one piece.
    """
    first = site.ask(SUMMARY, Authorization=LOGIN, **{"Accept-Encoding": "gzip"})
    known = {"If-None-Match": first.headers["etag"], "Accept-Encoding": "gzip"}

    second = site.ask(SUMMARY, Authorization=LOGIN, **known)

    assert re.fullmatch(ETAGS.get(site.name, r'"\w+"'), first.headers["etag"])
    assert (first.status, second.status, second.body) == (200, 304, b"")


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [("/emotions", "/emotions/dashboard"), ("/emotions/docs/?a=b", "/emotions/docs?a=b")],
)
def test_other_spellings_lead_to_a_page(path: str, leads_to: str, site: Site) -> None:
    answer = site.ask(path, Authorization=LOGIN)

    assert answer.status == 308
    assert urljoin(path, re.sub(r"^https?://[^/]+", "", answer.headers["location"])) == leads_to


def test_the_addresses_of_the_openapi_document_are_below_the_prefix(site: Site) -> None:
    document = json.loads(site.ask("/emotions/openapi.json", Authorization=LOGIN).body)

    base = urljoin("/emotions/openapi.json", document["servers"][0]["url"])

    assert site.ask(base.rstrip("/") + "/api/devices", Authorization=LOGIN).status == 200
