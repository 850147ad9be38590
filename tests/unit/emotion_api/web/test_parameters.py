"""Query strings are parsed, and invalid ones get a sentence."""

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_api.bad_request import BadRequest
from emotion_api.history import HistoryRequest
from emotion_api.summary import SummaryRequest
from emotion_api.web.parameters import devices, history, summary

HALF_PAST = datetime(2025, 11, 14, 12, 30, tzinfo=UTC)
SITE, KATHMANDU = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kathmandu")


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", SummaryRequest("jetson_1")),
        ("device_id=a&unknown=1&unknown=2", SummaryRequest("a")),
        ("fields=totals", SummaryRequest("jetson_1", totals_only=True)),
        ("seen_within=30", SummaryRequest("jetson_1", seen_within=30)),
        ("seen_within=.5", SummaryRequest("jetson_1", seen_within=0.5)),
        ("seen_within=1e-05", SummaryRequest("jetson_1", seen_within=0.00001)),
        ("seen_within=1e%2B300", SummaryRequest("jetson_1", seen_within=1e300)),
        ("active_within=10", SummaryRequest("jetson_1", active_within=10)),
        ("limit=1", SummaryRequest("jetson_1", limit=1)),
        ("limit=10000", SummaryRequest("jetson_1", limit=10_000)),
        ("after=%F0%9F%98%80+b", SummaryRequest("jetson_1", after="😀 b")),
        ("device_id=a&seen_within=2.5&limit=50&after=1", SummaryRequest("a", False, 2.5, None, 50, "1")),
    ],
)
def test_what_is_asked_of_the_summary(query: str, wanted: SummaryRequest) -> None:
    assert summary(query) == wanted


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        *((f"seen_within={value}", "seen_within has to be a number of seconds greater than 0") for value in (
            "", "0", "0.0", "-1", "1e400", "1e-400", "inf", "nan", "1_0", "%2030", "30s", "%D9%A3", "0x10", ".",
        )),
        *((f"limit={value}", "limit has to be a whole number from 1 to 10,000") for value in (
            "", "0", "10001", "-1", "1.0", "1e3", "1_0", "%201", "%D9%A3", "9" * 5_000,
        )),
        *((f"after={value}", "after names a person who is not") for value in ("", "%00", "a%0Ab", "x" * 129)),
        *((f"{name}=1&{name}=1", f"{name} is given more than once") for name in ("seen_within", "limit", "after")),
        *((f"fields=totals&{more}", "fields=totals has none") for more in ("seen_within=1", "limit=1", "after=1")),
        ("device_id=a%20b", "device_id has to be"),
        ("fields=people", "fields can only be totals"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_of_the_summary(query: str, sentence: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(sentence)):
        summary(query)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", HistoryRequest("jetson_1")),
        ("device_id=a&step=300", HistoryRequest("a", step=300)),
        ("start=2025-11-14T12:30:00Z", HistoryRequest("jetson_1", start=HALF_PAST)),
        ("start=2025-11-14T12:30", HistoryRequest("jetson_1", start=HALF_PAST)),
        ("start=2025-11-14t12:30:00z", HistoryRequest("jetson_1", start=HALF_PAST)),
        ("end=2025-11-14%2012:30:00z", HistoryRequest("jetson_1", end=HALF_PAST)),
        ("end=2025-11-14T13:30:00%2B01:00", HistoryRequest("jetson_1", end=HALF_PAST)),
        ("end=2025-11-14T07:30:00-05:00", HistoryRequest("jetson_1", end=HALF_PAST)),
        ("end=2025-11-14", HistoryRequest("jetson_1", end=datetime(2025, 11, 14, tzinfo=UTC))),
        ("step=day", HistoryRequest("jetson_1", step=86_400, zone=SITE)),
        ("step=week&tz=UTC", HistoryRequest("jetson_1", step=7 * 86_400, zone=ZoneInfo("UTC"))),
        ("step=300&tz=Asia/Kathmandu", HistoryRequest("jetson_1", step=300, zone=KATHMANDU)),
        ("tz=Asia/Kathmandu", HistoryRequest("jetson_1", zone=KATHMANDU)),
        ("tz=Asia/Kathmandu&start=2025-11-14T18:15", HistoryRequest("jetson_1", HALF_PAST, zone=KATHMANDU)),
        ("tz=Asia/Kathmandu&start=2025-11-14T12:30Z", HistoryRequest("jetson_1", HALF_PAST, zone=KATHMANDU)),
        ("step=day&end=2025-11-14T13:30", HistoryRequest("jetson_1", None, HALF_PAST, 86_400, SITE)),
    ],
)
def test_what_is_asked_of_the_history(query: str, wanted: HistoryRequest) -> None:
    assert history(query, csv=False, site=SITE) == wanted


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        *((f"{name}={value}", f"{name} is not ISO 8601") for name in ("start", "end") for value in (
            "", "yesterday", "2025", "2025-13-01", "2025-11-14T25:00", "2025-11-14x12:30", "1763123400",
            "2025-11-14T13:30:00+01:00",  # the + is a space
        )),
        ("start=0001-01-01T00:00:00%2B01:00", "start has to lie between"),
        ("end=9999-12-31T23:59:59-01:00", "end has to lie between"),
        *((f"step={value}", "step has to be whole seconds, a multiple of 60") for value in (
            "", "0", "59", "61", "-60", "60.0", "6e1", "1m", "9" * 5_000, "60" + "0" * 14,
        )),
        *((f"{name}={value}&{name}={value}", f"{name} is given more than once") for name, value in (
            ("start", "2025-11-14"), ("end", "2025-11-14"), ("step", "60"), ("step", "day"), ("tz", "UTC"),
        )),
        ("device_id=a&device_id=a", "device_id is given more than once"),
        *((f"tz={value}", "but it is an IANA time zone, like Europe/Berlin.") for value in (
            "", "Berlin", "europe/berlin", "%2B01:00", "../UTC", "Z" * 5_000, "%00",
        )),
        ("tz=Europe/Berlin&end=9999-12-31T23:59:59-01:00", "end has to lie between"),
        ("tz=Europe/Berlin&start=0001-01-01", "start has to lie between"),
        *((f"format={value}", "format can only be json or csv") for value in ("", "CSV", "xml", "text/csv")),
        ("format=csv&format=csv", "format is given more than once"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_of_the_history(query: str, sentence: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(sentence)):
        history(query, csv=False, site=SITE)


@pytest.mark.parametrize("preferred", [True, False])
def test_the_format_overrides_the_preferred_one(preferred: bool) -> None:
    assert history("format=csv", csv=preferred, site=SITE).csv
    assert not history("format=json", csv=preferred, site=SITE).csv
    assert history("", csv=preferred, site=SITE).csv is preferred


def _history(query: str) -> None:
    history(query, csv=False, site=SITE)


@pytest.mark.parametrize(
    ("ask", "name", "sentence"),
    [
        *((summary, name, "Did you mean device_id?") for name in (
            "deviceId", "deviceid", "device-id", "DEVICE_ID", "device", "Device", "device_ids", "devcie_id",
            "devise_id", "device_id[]", "camera", "camera_id", "id", "ID", "name",
        )),
        *((summary, name, "Did you mean after?") for name in ("page", "offset", "cursor")),
        *((summary, name, "Did you mean seen_within?") for name in ("seenWithin", "seen", "seen_withn")),
        *((summary, name, "Did you mean limit?") for name in (
            "limt", "Limit", "limits", "limit_", "ilmit", "count", "top", "max", "maxPeople", "page_size", "per_page",
        )),
        *((summary, name, "Did you mean fields?") for name in ("field", "fields[]")),
        *((summary, name, "Did you mean end of /api/dashboard/history?") for name in ("End", "endTime")),
        *((_history, name, "Did you mean start?") for name in (
            "from", "since", "begin", "start_time", "strat", "startDate",
        )),
        *((_history, name, "Did you mean end?") for name in (
            "to", "until", "endTime", "ends", "edn", "before", "finish",
        )),
        *((_history, name, "Did you mean step?") for name in (
            "steps", "setp", "step_seconds", "interval", "resolution", "window", "bucket",
        )),
        *((_history, name, "Did you mean tz?") for name in ("TZ", "timezone", "time_zone", "timeZone", "zone")),
        *((_history, name, "Did you mean format?") for name in (
            "fromat", "formats", "Format", "fmt", "csv", "output", "type",
        )),
        *((_history, name, f"{name} is a parameter of /api/dashboard/summary") for name in ("limit", "seen_within")),
        *((summary, name, f"{name} is a parameter of /api/dashboard/history") for name in ("start", "step", "format")),
        *((devices, name, f"{name} is a parameter of /api/dashboard/") for name in ("device_id", "format", "limit")),
        *((devices, name, "Did you mean device_id of /api/dashboard/summary?") for name in ("device", "id")),
        (_history, "page", "Did you mean after of /api/dashboard/summary?"),
    ],
)  # fmt: skip
def test_a_near_miss_is_refused_with_the_name_that_was_meant(
    ask: Callable[[str], object], name: str, sentence: str
) -> None:
    with pytest.raises(BadRequest, match=re.escape(sentence)):
        ask(f"{name}=1")


@pytest.mark.parametrize("ask", [summary, _history, devices])
@pytest.mark.parametrize(
    "name",
    [
        *("_", "t", "ts", "v", "r", "cb", "rnd", "rand", "random", "nocache", "cache_bust", "timestamp", "utm_source"),
        *("state", "1763123400", "x", "person_id", "%C3%A9", "q", "fbclid", "__cf_chl_tk", ""),
    ],
)
def test_a_cache_buster_is_ignored(ask: Callable[[str], object], name: str) -> None:
    assert ask(f"{name}=1763123400") == ask("")


@given(st.sampled_from(["start", "end", "step", "tz", "seen_within", "limit", "after"]), st.text())
def test_whatever_a_parameter_is_nothing_fails_but_with_a_sentence(name: str, value: str) -> None:
    for ask in (summary, lambda query: history(query, csv=True, site=SITE)):
        with suppress(BadRequest):
            ask(f"{name}={value}")
