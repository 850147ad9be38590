"""The live page's modules that take plain values: durations, ages, shares, the server's clock."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.browser.chromium import Tab
from tests.browser.serving import Server

HOUR, DAY = 3_600, 86_400
AT_20, AT_50 = "2026-11-25T11:59:20Z", "2026-11-25T11:59:50Z"

CASES = {
    ("format.js", "duration"): {
        0: "0 s",
        0.01: "0.1 s",
        3.24: "3.2 s",
        9.94: "9.9 s",
        9.96: "10 s",
        59.4: "59 s",
        59.6: "1 min",
        123: "2 min 3 s",
        HOUR - 0.4: "1 h",
        5 * HOUR + 720: "5 h 12 min",
        100 * HOUR - 20: "100 h",
        1_234 * HOUR: "1,234 h",
        1.7e308: ">1,000,000 h",
    },
    ("format.js", "age"): {
        -5: "0 s",
        2.9: "2 s",
        60: "1 min",
        14 * 60 + 59: "14 min",
        3 * HOUR: "3 h",
        25 * HOUR + 60: "25 h 1 min",
        2 * DAY: "2 days",
        4_000 * DAY: "4,000 days",
    },
    ("format.js", "percent"): {0: "0 %", 0.001: "<1 %", 0.5: "50 %", 1: "100 %"},
}

ADDRESSES = {
    "": "?",
    "?device=jetson_1": "?device=jetson_1",
    "?device_id=jetson_1": "?device=jetson_1",
    "?device=a&device_id=b": "?device=a",
    "?device=%22a+b%22&x=1": "?device=%22a+b%22",
    "?compare=week&range=7d&device=a": "?device=a&range=7d&compare=week",
    "?range=today&view=share": "?view=share",
}


@pytest.fixture
def page(api: Server, tab: Tab) -> Tab:
    """A page that may load the modules."""
    tab.open(f"{api.url}/dashboard")
    return tab


def call(page: Tab, module: str, expression: str, *arguments: Any) -> Any:
    """Return the value of an expression that may use `module`, and `given`, the arguments."""
    return page.ask(
        f"const given = [...arguments]; return import('/dashboard/assets/{module}').then((module) => {expression})",
        *arguments,
    )


@pytest.mark.parametrize(("module", "function"), CASES)
def test_numbers_become_what_people_read(module: str, function: str, page: Tab) -> None:
    expected = CASES[module, function]

    found = call(page, module, f"given[0].map((each) => module.{function}(each))", list(expected))

    assert dict(zip(expected, found, strict=True)) == expected


@pytest.mark.parametrize(
    ("zone", "start", "shown"),
    [
        ("America/New_York", "2026-11-01T05:00:00Z", ["01:00 GMT-5", "01:00 GMT-4"]),
        ("Europe/Berlin", "2026-10-25T00:00:00Z", ["02:00 GMT+1", "02:00 GMT+2"]),
        ("America/New_York", "2026-03-08T06:00:00Z", ["03:00", "01:00"]),
        ("Asia/Kathmandu", "2026-11-01T05:15:00Z", ["12:00", "11:00"]),
    ],
)
def test_no_hour_of_the_table_is_merged_or_split_at_a_clock_change(
    zone: str, start: str, shown: list[str], api: Server, tab: Tab
) -> None:
    tab.site_in(zone)
    tab.open(f"{api.url}/dashboard")
    first = datetime.fromisoformat(start)
    seconds = {"happy": 900, "sad": 0, "angry": 0, "neutral": 0, "most_people": 1}
    points = [seconds | {"start": (first + timedelta(minutes=15 * n)).isoformat()} for n in range(8)]

    history = {"points": points, "end": (first + timedelta(hours=2)).isoformat()}
    rows = "module.rowsOf(module.stepsOf(given[0], Infinity))"
    found = call(tab, "series.js", f"{rows}.map(({{ start, seconds }}) => ({{ start, ...seconds }}))", history)
    names = call(tab, "format.js", "given[0].map((each) => module.time(each))", [hour["start"] for hour in found])

    assert names == shown
    assert [hour["happy"] for hour in found] == [3600, 3600]


def test_shares_add_up_also_where_seconds_are_as_large_as_numbers_get(page: Tab) -> None:
    huge = {"happy": 1.7e308, "sad": 1.7e308, "angry": 0, "neutral": 0}
    none = dict.fromkeys(huge, 0)

    assert call(page, "emotions.js", "module.shares(given[0])", huge) == {**none, "happy": 0.5, "sad": 0.5}
    assert call(page, "emotions.js", "module.shares(given[0])", none) == none


def test_the_clock_becomes_exact_although_dates_have_whole_seconds(page: Tab) -> None:
    """The server is 1,000.7 s ahead of performance.now(); asked at different parts of its seconds."""
    wrong_by = call(
        page,
        "clock.js",
        """{
          const clock = new module.Clock();
          const begin = Math.floor(performance.now());
          for (let asked = begin; asked < begin + 20_000; asked += 1_130) {
            const server = asked + 10 + 1_000_700;
            clock.learn(new Date(Math.floor(server / 1000) * 1000).toUTCString(), asked, asked + 20);
          }
          return clock.now() - performance.now() - 1_000_700;
        }""",
    )

    assert abs(wrong_by) < 80


def test_the_clock_follows_a_server_whose_clock_is_set(page: Tab) -> None:
    jump = call(
        page,
        "clock.js",
        """{
          const clock = new module.Clock();
          clock.learn("Wed, 25 Nov 2026 12:00:00 GMT", 0, 10);
          clock.learn("nonsense", 0, 10);
          clock.learn(null, 0, 10);
          clock.learn("Wed, 25 Nov 2026 13:00:00 GMT", 1000, 1010);
          return clock.now() - performance.now() + 1005 - Date.parse("2026-11-25T13:00:00.5Z");
        }""",
    )

    assert abs(jump) < 20


@pytest.mark.parametrize(
    ("entry", "heard", "kind"),
    [
        ({"received_at": "2026-11-25T11:59:31Z", "online": True, "status": None}, 0, "live"),
        ({"received_at": "2026-11-25T11:59:29Z", "online": False, "status": "online"}, 0, "silent"),
        ({"received_at": AT_50, "status": "offline", "status_at": "2026-11-25T11:59:51Z"}, 0, "offline"),
        ({"received_at": AT_50, "status": "offline", "status_at": AT_50}, 0, "offline"),
        ({"received_at": AT_50, "status": "offline", "status_at": "2026-11-25T11:59:49Z"}, 0, "live"),
        ({"received_at": AT_50, "status": "offline", "status_at": None}, 0, "live"),
        ({"received_at": AT_50, "status": "offline"}, 0, "live"),
        ({"received_at": AT_50, "status": "offline", "status_at": "2026-11-25T11:59:51Z"}, 5_000, "live"),
        ({"received_at": AT_20, "status": "offline", "status_at": "2026-11-25T11:59:19Z"}, 0, "silent"),
        ({"received_at": AT_20, "status": "offline", "status_at": "2026-11-25T11:59:21Z"}, 0, "offline"),
        ({"received_at": "2026-11-25T11:00:00Z", "online": False, "status": None}, 1_000, "live"),
        ({"received_at": "2026-11-25T12:01:00Z", "online": True, "status": None}, 0, "live"),
        ({"received_at": None, "last_batch": None, "online": False, "status": "online"}, 0, "waiting"),
        ({"received_at": None, "last_batch": "2026-11-25T11:00:00Z", "online": False, "status": None}, 0, "silent"),
    ],
)
def test_the_newest_evidence_says_whether_a_camera_is_heard(
    entry: dict[str, Any], heard: int, kind: str, page: Tab
) -> None:
    """At noon; `heard`: how many milliseconds ago this page saw a batch, 0 for never."""
    expression = """{
      const now = Date.parse("2026-11-25T12:00:00Z");
      const [entry, ago] = given;
      return module.freshness(entry, { now, heard: ago ? now - ago : 0, silentAfter: 30 }).kind;
    }"""

    assert call(page, "freshness.js", expression, entry, heard) == kind


@pytest.mark.parametrize(
    ("info", "line"),
    [
        (None, ""),
        ({"fps": None, "queue_age": None, "reconnects": None, "version": None}, ""),
        ({"fps": 24.8, "queue_age": 0.0, "reconnects": 0, "version": "0.1.0"}, "24.8 frames a second, version 0.1.0"),
        ({"fps": None, "queue_age": 120, "reconnects": 2, "version": None}, "a batch waited 2 min, 2 reconnects"),
    ],
)
def test_the_statistics_of_a_program_are_one_line(info: dict[str, Any] | None, line: str, page: Tab) -> None:
    shown = call(page, "freshness.js", "module.program(given[0])", info)

    assert shown == (f"Its program: {line}" if line else "")


@pytest.mark.parametrize(
    ("offset", "says"),
    [
        (0, "Most likely it sends local time without an offset"),
        (HOUR, "On the camera: sudo timedatectl set-ntp true"),
    ],
)
def test_a_clock_that_was_set_back_by_an_hour_is_not_taken_for_local_time(offset: float, says: str, page: Tab) -> None:
    entry = {"clock_skew": -HOUR, "clock_offset": offset}

    hint = str(call(page, "freshness.js", 'module.hints(given[0], { kind: "live" }, 1)[0]', entry))
    assert hint.startswith(f"Its clock is 1 h behind. {says}")


@pytest.mark.parametrize(
    ("zone", "day", "begin", "hours"),
    [
        ("UTC", "2026-11-30", "2026-11-30T00:00:00.000Z", 24),
        ("America/New_York", "2026-03-08", "2026-03-08T05:00:00.000Z", 23),
        ("America/New_York", "2026-11-01", "2026-11-01T04:00:00.000Z", 25),
        ("Asia/Kathmandu", "2026-11-01", "2026-10-31T18:15:00.000Z", 24),
        ("Africa/Cairo", "2026-04-24", "2026-04-23T22:00:00.000Z", 23),  # at midnight the clock goes to 01:00
        ("America/Havana", "2026-11-01", "2026-11-01T04:00:00.000Z", 25),  # midnight comes twice
    ],
)
def test_a_day_of_the_site_begins_at_its_midnight(
    zone: str, day: str, begin: str, hours: int, api: Server, tab: Tab
) -> None:
    tab.site_in(zone)
    tab.open(f"{api.url}/dashboard")

    asked = call(tab, "range.js", "module.parametersOf('jetson_1', { from: given[0], to: given[0] })", day)

    start, end = (datetime.fromisoformat(asked[name]) for name in ("start", "end"))
    assert asked["start"] == begin
    assert end - start == timedelta(hours=hours)
    assert asked["tz"] == zone


@pytest.mark.parametrize(
    ("range_", "first", "last", "written"),
    [
        ("today", "2026-11-30", "2026-11-30", "today"),
        ("yesterday", "2026-11-29", "2026-11-29", "yesterday"),
        ("7d", "2026-11-24", "2026-11-30", "7d"),
        ("28d", "2026-11-03", "2026-11-30", "28d"),
        ("2026-11-24..2026-11-30", "2026-11-24", "2026-11-30", "7d"),
        ("2026-11-01..2026-11-14", "2026-11-01", "2026-11-14", "2026-11-01..2026-11-14"),
        ("2026-02-30..2026-03-01", "2026-11-30", "2026-11-30", "today"),
        ("2026-11-14..2026-11-01", "2026-11-30", "2026-11-30", "today"),
        ("surprise", "2026-11-30", "2026-11-30", "today"),
    ],
)
def test_a_range_in_the_address_names_days(range_: str, first: str, last: str, written: str, page: Tab) -> None:
    expression = """{
      const days = module.daysOf(given[0], "2026-11-30");
      return [days.from, days.to, module.rangeOf(days, "2026-11-30")];
    }"""

    assert call(page, "range.js", expression, range_) == [first, last, written]


@pytest.mark.parametrize(
    ("most", "seconds", "count"),
    [(0, [1, 1], [1, 1]), (4, [4, 1], [4, 1]), (9, [10, 5], [10, 5]), (700, [900, 300], [800, 200])],
)
def test_a_scale_has_three_to_five_lines(most: int, seconds: list[int], count: list[int], page: Tab) -> None:
    expression = "[module.secondsScale(given[0]), module.countScale(given[0])].map(({ top, tick }) => [top, tick])"

    assert call(page, "scale.js", expression, most) == [seconds, count]


def test_the_kind_of_a_step_tells_no_people_from_not_measured(page: Tab) -> None:
    """At 12:45; steps of a quarter of an hour from 11:30 on."""
    no_time = dict.fromkeys(("happy", "sad", "angry", "neutral", "most_people"), 0)
    steps: list[dict[str, Any]] = [
        {"covered": 900, "happy": 5, "most_people": 1},
        {"covered": 900},
        {"covered": 0},
        {"covered": 100, "happy": 5, "most_people": 1},
        {"covered": None},
        {"covered": 0},
        {"covered": 0, "happy": 5, "most_people": 1},  # the camera's clock is ahead
    ]
    first = datetime.fromisoformat("2026-11-25T11:30:00Z")
    points = [
        no_time | step | {"start": (first + timedelta(minutes=15 * n)).isoformat()} for n, step in enumerate(steps)
    ]
    history = {"points": points, "end": "2026-11-25T13:15:00Z"}
    expression = "module.stepsOf(given[0], Date.parse('2026-11-25T12:45:00Z')).map(({ kind }) => kind)"

    found = call(page, "series.js", expression, history)

    assert found == ["", "", "unmeasured", "small", "", "future", ""]


def test_the_address_names_the_view_and_the_view_its_address(page: Tab) -> None:
    found = call(page, "router.js", "given[0].map((each) => module.addressOf(module.viewOf(each)))", list(ADDRESSES))

    assert dict(zip(ADDRESSES, found, strict=True)) == ADDRESSES


def test_the_store_tells_each_subscriber_of_each_change(page: Tab) -> None:
    seen = call(
        page,
        "store.js",
        """{
          const store = module.createStore({ one: 1, two: 2 });
          const seen = [];
          for (const name of ["a", "b"]) store.subscribe((state) => seen.push([name, state]));
          store.set({ two: 3 });
          return [...seen, store.get()];
        }""",
    )

    assert seen == [["a", {"one": 1, "two": 3}], ["b", {"one": 1, "two": 3}], {"one": 1, "two": 3}]


def day(happy: float, covered: float | None = 3_600.0) -> dict[str, Any]:
    return {"seconds": {"happy": happy, "sad": 0.0, "angry": 0.0, "neutral": 0.0}, "most_people": 1, "covered": covered}


@pytest.mark.parametrize(
    ("today", "before", "mood", "change"),
    [
        (day(0), day(900), "no one today", {"text": "\N{MINUS SIGN}100 %", "isSmall": False}),
        (day(0, covered=0), day(900), "not measured", {"text": "", "isSmall": True}),
        (day(900), day(61), "Happy 100 %", {"text": ">+999 %", "isSmall": True}),
        (day(990), day(900), "Happy 100 %", {"text": "+10 %", "isSmall": False}),
    ],
)
def test_a_day_that_was_not_measured_is_not_one_without_people(
    today: dict[str, Any], before: dict[str, Any], mood: str, change: dict[str, Any], page: Tab
) -> None:
    found = call(
        page,
        "day.js",
        "[module.moodOf(given[0]).text, module.changeOf(given[1])]",
        today,
        {"today": today, "before": before},
    )

    assert found == [mood, change]
