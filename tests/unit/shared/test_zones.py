"""The names of time zones, with and without the system's own files."""

import zoneinfo
from collections.abc import Iterator

import pytest

from shared.zones import zone


@pytest.fixture(params=["the system's files", "the package tzdata"], autouse=True)
def zone_files(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "the package tzdata":
        zoneinfo.reset_tzpath([])
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath()


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "EST5EDT"])
def test_an_iana_name_has_a_zone(name: str) -> None:
    assert zone(name).key == name


@pytest.mark.parametrize(
    ("name", "similar"),
    [
        ("Berlin", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("America/Newyork", "America/New_York"),
        ("Katmandu", "Asia/Katmandu"),
        ("+01:00", "Europe/Berlin"),
        ("Europe", "Europe/Berlin"),
        ("right/Europe/Berlin", "Europe/Berlin"),
        ("localtime", "Europe/Berlin"),
        ("../../etc/passwd", "Europe/Berlin"),
        ("Europe/Berlin\n", "Europe/Berlin"),
        ("Z" * 100_000, "Europe/Berlin"),
        ("Ü", "Europe/Berlin"),
    ],
)
def test_another_is_refused_with_a_similar_name(name: str, similar: str) -> None:
    with pytest.raises(ValueError, match="IANA time zone") as caught:
        zone(name)

    assert str(caught.value).endswith(f", like {similar}")
    assert len(str(caught.value)) < 150
