"""Doctor connects to each server of a URL: the session's server, one of the test's own, and a port without a server."""

from collections.abc import Iterable

from sqlalchemy import make_url

from emotion_admin.doctor.database_servers import SUBJECT, examine
from emotion_admin.doctor.finding import Finding
from tests.integration.emotion_admin.doctor.examining import examined
from tests.postgresql import PostgreSQL
from tests.waiting import free_port

READ_WRITE = "&target_session_attrs=read-write"


def url_of(*ports: int, more: str = READ_WRITE) -> str:
    hosts = "&".join(f"host=127.0.0.1:{port}" for port in ports)
    return f"postgresql+psycopg://postgres@/postgres?{hosts}{more}"


def said(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(each.level, each.found) for each in findings if each.subject == SUBJECT]


def test_servers_that_accept_writes(postgresql: PostgreSQL, own_postgresql: PostgreSQL) -> None:
    both = [postgresql.port, own_postgresql.port]
    one, other = (f"127.0.0.1:{port}" for port in both)
    found = said(examined(None, url_of(*both)).findings)
    assert found == [("problem", f"more than one server accepts writes: {one}, {other}")]

    own_postgresql.configure("default_transaction_read_only", "on")
    in_lists = f"postgresql+psycopg://postgres@/postgres?host=127.0.0.1,127.0.0.1&port={both[0]},{both[1]}"
    for url in (url_of(*both), in_lists + READ_WRITE):
        assert said(examine(make_url(url))) == [("ok", f"{one} accepts writes, {other} does not")]


def test_a_server_that_does_not_answer_is_a_warning(postgresql: PostgreSQL) -> None:
    away = free_port()
    (first, found), last = said(examine(make_url(url_of(away, postgresql.port))))
    assert first == "warning"
    assert found.startswith(f"127.0.0.1:{away} cannot be used: ")
    assert last == ("ok", f"127.0.0.1:{postgresql.port} accepts writes")


def test_a_url_that_takes_any_server_is_a_warning(postgresql: PostgreSQL) -> None:
    first, *_ = said(examine(make_url(url_of(free_port(), postgresql.port, more=""))))
    assert first[0] == "warning"
    assert "also if it is a standby" in first[1]


def test_a_single_server_is_not_asked_twice() -> None:
    assert said(examine(make_url(url_of(free_port())))) == []
