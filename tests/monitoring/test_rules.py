"""The shipped rules over hours and days, among them the moments in which a rule is most likely to be wrong."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.promtool import (
    CONFIGURATIONS,
    DAY,
    HOUR,
    MINUTE,
    RULES,
    Figure,
    Labels,
    Timeline,
    alert,
    always,
    during,
    promtool,
)
from tests.processes import ROOT

BEGIN, END = 30 * MINUTE, 45 * MINUTE
"""Of an outage."""

UNTIL = 75 * MINUTE
FOR_EVER = float("inf")
SILENT = alert("EmotionCameraSilent", device_id="camera_1")
CLOCK_WRONG = alert("EmotionDeviceClockWrong", device_id="camera_1")
SENDS_RUBBISH = alert("EmotionMessagesRejected", device_id="camera_1")
ALL_SILENT = alert("EmotionAllCamerasSilent")
REPEATED = alert("EmotionOutagesRepeat")


@pytest.fixture
def line() -> Timeline:
    return Timeline(until=UNTIL)


def stops_at(moment: float, *, again_at: float = FOR_EVER) -> Figure:
    """Return the time of the last batch of a camera that sends none from `moment` until `again_at`."""
    return lambda at: moment if moment <= at < again_at else at


def hangs(at: float) -> float:
    """Return the age of a loop that stands still from BEGIN to END."""
    return at - BEGIN if BEGIN <= at < END else 0.1


def one_every(seconds: float, *, start: float = BEGIN) -> Figure:
    """A counter that begins with its first one."""
    return lambda at: None if at < start else (at - start) // seconds + 1


def every(seconds: float, then: float, *, lasting: float, otherwise: float) -> Figure:
    """From BEGIN on `then` for so many seconds of each `seconds`."""
    return lambda at: then if at >= BEGIN and at % seconds < lasting else otherwise


def without(line: Timeline, part: str) -> None:
    """No series whose name or labels have `part`."""
    line.figures = {series: figure for series, figure in line.figures.items() if part not in series}


def comes_back_late(line: Timeline) -> None:
    """No batch arrives during an outage. One camera is back at once, another one nine minutes later."""
    line.camera("camera_1", heard=stops_at(BEGIN, again_at=END))
    line.camera("camera_2", heard=stops_at(BEGIN, again_at=END + 9 * MINUTE))


def test_rules_and_configurations_are_valid() -> None:
    assert "SUCCESS: 20 rules found" in promtool("check", "rules", str(RULES))
    for name in ("prometheus.yml", "host.yml"):
        assert "SUCCESS: 1 rule files found" in promtool("check", "config", str(CONFIGURATIONS / name))


def test_the_configuration_of_a_cluster_is_valid_next_to_the_rules(tmp_path: Path) -> None:
    for file in (RULES, ROOT / "deploy" / "cluster" / "prometheus.yml"):
        shutil.copy(file, tmp_path)

    assert "SUCCESS: 1 rule files found" in promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_of_cameras_that_fall_silent_one_after_the_other_somebody_is_always_named(
    line: Timeline, tmp_path: Path
) -> None:
    line.camera("camera_1", heard=stops_at(10 * MINUTE))
    line.camera("camera_2", heard=stops_at(18 * MINUTE))

    fired = line.run(tmp_path)
    assert fired.between(0, 23 * MINUTE) == {SILENT}
    assert all(len(fired.at[moment]) == 1 for moment in fired.at if moment >= 17 * MINUTE)
    assert fired.at[26 * MINUTE] == {ALL_SILENT}


def test_a_camera_that_was_taken_away_days_ago_makes_the_other_one_not_all(line: Timeline, tmp_path: Path) -> None:
    line.camera("camera_1", heard=stops_at(BEGIN))
    line.camera("camera_2", heard=lambda at: -3 * DAY)

    assert ALL_SILENT not in line.run(tmp_path).ever


def test_an_outage_that_prometheus_did_not_see_the_end_of_names_no_camera(line: Timeline, tmp_path: Path) -> None:
    line.camera("camera_1", heard=stops_at(10 * MINUTE, again_at=33 * MINUTE))
    line.camera("camera_2", heard=stops_at(10 * MINUTE, again_at=38 * MINUTE))
    line.daemon("emotion_broker_connected", during(10 * MINUTE, 31 * MINUTE, 0, otherwise=1))
    line.prometheus_is_away(12 * MINUTE, 31 * MINUTE)

    assert line.run(tmp_path).between(31 * MINUTE) == set()


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"] if "alert" in rule]


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    runbooks = sorted((ROOT / "docs" / "runbooks").glob("Emotion*.md"))

    assert [page.stem for page in runbooks] == sorted(rule["alert"] for rule in alerts())
    for page in runbooks:
        text = page.read_text()
        assert text.startswith(f"# {page.stem}\n"), page
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings == ["Check", "Do", "When it ends", "Limits"], page
    for rule in alerts():
        path = f"docs/runbooks/{rule['alert']}.md"
        assert rule["annotations"]["runbook_url"] == "{{ $externalLabels.runbooks }}" + path
        severity = (ROOT / path).read_text().split("**")[1]
        assert severity == f"{rule['labels']['severity'].capitalize()}.", path


def test_an_address_of_the_documents_precedes_the_path_of_a_runbook(tmp_path: Path) -> None:
    def runbook_of_a_lost_broker(external_labels: dict[str, str]) -> str:
        series = [{"series": "emotion_broker_connected", "values": "0x40"}]
        expected = {"eval_time": "5m", "alertname": "EmotionBrokerDown", "exp_alerts": []}
        test = {"interval": "15s", "input_series": series, "alert_rule_test": [expected]}
        file = {"rule_files": [str(RULES)], "tests": [{**test, "external_labels": external_labels}]}
        (tmp_path / "test.yml").write_text(yaml.safe_dump(file))
        command = ["promtool", "test", "rules", str(tmp_path / "test.yml")]  # fails, and prints what it got instead
        printed = subprocess.run(command, capture_output=True, text=True, check=False)
        return re.search(r'runbook_url="([^"]*)"', printed.stdout + printed.stderr)[1]  # type: ignore[index]

    path = "docs/runbooks/EmotionBrokerDown.md"
    assert runbook_of_a_lost_broker({}) == path
    assert runbook_of_a_lost_broker({"runbooks": "https://wiki.example/"}) == f"https://wiki.example/{path}"


def test_every_alert_says_what_it_is_and_what_to_do_first() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]
        assert re.search(r"\bFirst (run|read|find|check|set) ", rule["annotations"]["description"]), rule["alert"]


def test_nothing_fires_while_all_is_well(line: Timeline, tmp_path: Path) -> None:
    assert line.run(tmp_path).ever == set()


def test_a_broker_that_is_away_is_named_alone(line: Timeline, tmp_path: Path) -> None:
    comes_back_late(line)
    line.daemon("emotion_broker_connected", during(BEGIN, END, 0, otherwise=1))

    fired = line.run(tmp_path)
    assert fired.at[BEGIN + 2 * MINUTE] == fired.at[END - MINUTE] == fired.ever == {alert("EmotionBrokerDown")}


def test_a_loop_that_stands_still_is_named_alone(line: Timeline, tmp_path: Path) -> None:
    comes_back_late(line)
    line.daemon("emotion_loop_age_seconds", hangs)

    fired = line.run(tmp_path)
    assert fired.at[BEGIN + 3 * MINUTE] == fired.at[END - MINUTE] == fired.ever == {alert("EmotionDaemonStalled")}


def test_a_commit_that_hangs_is_named_alone(line: Timeline, tmp_path: Path) -> None:
    comes_back_late(line)
    for name in ("emotion_loop_age_seconds", "emotion_database_wait_seconds"):
        line.daemon(name, hangs)

    fired = line.run(tmp_path)
    assert fired.at[BEGIN + MINUTE] == fired.at[END - MINUTE] == fired.ever == {alert("EmotionDatabaseHangs")}


def test_a_disk_that_is_nearly_full_is_named(line: Timeline, tmp_path: Path) -> None:
    line.daemon("emotion_database_disk_free_bytes", during(BEGIN, END, 9e9, otherwise=50e9))

    fired = line.run(tmp_path)
    assert fired.at[BEGIN + 6 * MINUTE] == fired.ever == {alert("EmotionDiskNearlyFull")}


@pytest.mark.parametrize(
    ("reason", "named"),
    [
        ("locked", "EmotionDatabaseLocked"),
        ("full", "EmotionDiskFull"),
        ("unreadable", "EmotionDatabaseFails"),
        ("unreachable", "EmotionDatabaseFails"),
        ("other", "EmotionDatabaseFails"),
    ],
)
def test_why_the_database_takes_nothing_is_named_alone(reason: str, named: str, line: Timeline, tmp_path: Path) -> None:
    """Also where the disk has nothing left, and where the API is kept out as the daemon is."""
    comes_back_late(line)
    line.daemon("emotion_database_failing", during(BEGIN, END, 1, otherwise=0), reason=reason)
    if reason == "full":
        line.daemon("emotion_database_disk_free_bytes", during(BEGIN, END, 0, otherwise=50e9))
    line.api("emotion_api_database_up", during(BEGIN - 20, END + 20, 0, otherwise=1))

    fired = line.run(tmp_path)
    assert fired.at[BEGIN + 2 * MINUTE] == fired.at[END - MINUTE] == fired.ever == {alert(named, reason=reason)}


@pytest.mark.parametrize(
    ("reason", "named"),
    [("locked", "EmotionDatabaseLocked"), ("full", "EmotionDiskFull"), ("unreachable", "EmotionDatabaseFails")],
)
def test_an_outage_of_the_database_that_pauses_every_minute_is_named_alone(
    reason: str, named: str, line: Timeline, tmp_path: Path
) -> None:
    line.daemon("emotion_database_failing", every(75, 1, lasting=60, otherwise=0), reason=reason)
    if reason == "full":
        line.daemon("emotion_database_disk_free_bytes", during(BEGIN, FOR_EVER, 0, otherwise=50e9))

    fired = line.run(tmp_path)
    assert fired.at[BEGIN + 2 * MINUTE] == fired.at[UNTIL] == fired.ever == {alert(named, reason=reason)}


def test_a_disk_that_is_full_now_and_then_is_nearly_full(line: Timeline, tmp_path: Path) -> None:
    line.daemon("emotion_database_disk_free_bytes", during(BEGIN, FOR_EVER, 1e6, otherwise=50e9))
    line.daemon("emotion_database_failing", every(240, 1, lasting=45, otherwise=0), reason="full")

    fired = line.run(tmp_path)
    assert fired.at[BEGIN + 6 * MINUTE] == fired.at[UNTIL] == fired.ever == {alert("EmotionDiskNearlyFull")}


@pytest.mark.parametrize(("away", "period"), [(45, 75), (30, 60), (60, 200)])
def test_a_broker_that_is_lost_again_and_again_is_named_alone(
    away: int, period: int, line: Timeline, tmp_path: Path
) -> None:
    line.daemon("emotion_broker_connected", every(period, 0, lasting=away, otherwise=1))
    line.daemon("emotion_broker_reconnects_total", lambda at: max(0, at - BEGIN) // period)

    fired = line.run(tmp_path)
    assert fired.at[BEGIN + 11 * MINUTE] == fired.at[UNTIL] == fired.ever == {alert("EmotionBrokerDown")}


def test_a_broker_that_is_upgraded_twice_is_no_alert(line: Timeline, tmp_path: Path) -> None:
    line.daemon("emotion_broker_reconnects_total", lambda at: (at >= BEGIN) + (at >= BEGIN + 3 * MINUTE))

    assert line.run(tmp_path).ever == set()


@pytest.mark.parametrize("period", [120, 300, 540, 660])
@pytest.mark.parametrize("outage", ["broker", "database", "loop", "scrape", "one or the other"])
def test_an_outage_that_comes_back_whatever_the_period_is_named_once(
    outage: str, period: int, line: Timeline, tmp_path: Path
) -> None:
    """Each is too short for an alert, and the next comes before a silent camera could be named."""
    line.until = 105 * MINUTE
    line.camera("camera_1", heard=stops_at(END))
    if outage == "one or the other":
        line.daemon("emotion_broker_connected", every(2 * period, 0, lasting=30, otherwise=1))
        line.daemon("emotion_database_failing", lambda at: 0 <= at % (2 * period) - period < 30, reason="full")
    elif outage == "broker":
        line.daemon("emotion_broker_connected", every(period, 0, lasting=45, otherwise=1))
        line.daemon("emotion_broker_reconnects_total", lambda at: max(0, at - BEGIN) // period)
    elif outage == "database":
        line.daemon("emotion_database_failing", every(period, 1, lasting=30, otherwise=0), reason="locked")
    elif outage == "loop":
        line.daemon("emotion_loop_age_seconds", lambda at: at % period if at >= BEGIN and at % period < 75 else 0.1)
    else:
        line.daemon_does_not_answer(lambda at: at >= BEGIN and at % period < 15)

    fired = line.run(tmp_path)
    assert fired.between(0, BEGIN + 75 * MINUTE)
    assert fired.ever in ({REPEATED}, {alert("EmotionBrokerDown")})


def test_two_long_outages_and_three_upgrades_within_an_hour_are_none_that_repeats(
    line: Timeline, tmp_path: Path
) -> None:
    for start, end in ((BEGIN, END), (BEGIN + 20 * MINUTE, UNTIL - 5 * MINUTE)):
        connected = line.figures['emotion_broker_connected{job="emotion-daemon",instance="daemon:9464"}']
        line.daemon(
            "emotion_broker_connected",
            lambda at, start=start, end=end, before=connected: 0 if start <= at < end else before(at),  # type: ignore[misc]
        )
    for moment in (5 * MINUTE, 15 * MINUTE, 25 * MINUTE):
        line.daemon_is_away(moment, moment + 50)

    assert line.run(tmp_path).ever == {alert("EmotionBrokerDown")}


@pytest.mark.parametrize("outage", ["away", "unknown", "hangs"])
def test_an_api_that_cannot_read_while_the_daemon_does_nothing_is_not_named(
    outage: str, line: Timeline, tmp_path: Path
) -> None:
    """As where both have a PostgreSQL that refuses them."""
    line.api("emotion_api_database_up", during(BEGIN, END, 0, otherwise=1))
    if outage == "hangs":
        line.daemon("emotion_loop_age_seconds", hangs)
    elif outage == "away":
        line.daemon_is_away(BEGIN, END)
    else:
        without(line, "emotion-daemon")

    named = "EmotionDaemonStalled" if outage == "hangs" else "EmotionDaemonDown"
    assert line.run(tmp_path).ever == {alert(named)}


def test_a_daemon_that_is_away_is_named_alone(line: Timeline, tmp_path: Path) -> None:
    """After its start it knows from the database how long the cameras are silent, which is no fault of theirs."""
    comes_back_late(line)
    line.daemon_is_away(BEGIN, END)

    fired = line.run(tmp_path)
    assert fired.at[BEGIN + 2 * MINUTE] == fired.at[END - MINUTE] == fired.ever == {alert("EmotionDaemonDown")}


def test_an_api_that_is_away_or_cannot_read_is_named_alone(line: Timeline, tmp_path: Path) -> None:
    line.api("up", during(600, 1_200, 0, otherwise=1))
    line.api("emotion_api_database_up", during(1_800, 2_400, 0, otherwise=1))

    fired = line.run(tmp_path)
    assert fired.at[900] == fired.between(0, 1_500) == {alert("EmotionApiDown")}
    assert fired.at[2_100] == fired.between(1_500) == {alert("EmotionApiDatabaseUnavailable")}


def test_an_api_that_comes_and_goes_is_named_alone(line: Timeline, tmp_path: Path) -> None:
    line.api("up", lambda at: float(at % 60 >= 45) if 600 <= at < 1_200 else 1)
    line.api("emotion_api_database_up", lambda at: float(at % 120 >= 105) if 1_800 <= at < 2_400 else 1)

    fired = line.run(tmp_path)
    assert fired.at[900] == fired.between(0, 1_500) == {alert("EmotionApiDown")}
    assert fired.at[2_100] == fired.between(1_500) == {alert("EmotionApiDatabaseUnavailable")}


def test_a_daemon_that_answers_now_and_then_is_down(line: Timeline, tmp_path: Path) -> None:
    line.daemon_does_not_answer(lambda at: at >= BEGIN and at % 60 < 45)

    fired = line.run(tmp_path)
    assert fired.at[BEGIN + 3 * MINUTE] == fired.at[UNTIL] == fired.ever == {alert("EmotionDaemonDown")}


@pytest.mark.parametrize("part", ["emotion-daemon", "emotion-api"])
def test_a_part_in_whose_place_another_program_answers_is_down(part: str, line: Timeline, tmp_path: Path) -> None:
    """9464 is what many an exporter takes. That the API cannot read as well is said when the daemon is back."""
    up = next(series for series in line.figures if series.startswith("up{") and part in series)
    without(line, part)
    line.figures[up] = always(1)
    if part == "emotion-daemon":
        line.api("emotion_api_database_up", always(0))

    named = "EmotionDaemonDown" if part == "emotion-daemon" else "EmotionApiDown"
    assert line.run(tmp_path).ever == {alert(named)}


def test_a_machine_that_takes_a_minute_to_start_is_no_alert(line: Timeline, tmp_path: Path) -> None:
    """Prometheus is there first, and has seen nothing else."""
    line.prometheus_is_away(BEGIN, END)
    line.daemon_is_away(BEGIN, END + 60)
    line.api("up", during(END, END + 60, 0, otherwise=1))
    line.api("emotion_api_database_up", lambda at: None if at < END + 60 else 1)
    line.prometheus_is_away(BEGIN, END)

    assert line.run(tmp_path).between(END) == set()


@pytest.mark.parametrize(("job", "named"), [("emotion-daemon", "EmotionDaemonDown"), ("emotion-api", "EmotionApiDown")])
def test_a_part_that_prometheus_does_not_know_counts_as_down(
    job: str, named: str, line: Timeline, tmp_path: Path
) -> None:
    without(line, f'job="{job}"')

    assert line.run(tmp_path).ever == {alert(named)}


@pytest.mark.parametrize(
    ("every", "named"), [(20, {alert("EmotionDaemonRestarts")}), (270, {alert("EmotionDaemonRestarts")}), (960, set())]
)
def test_a_daemon_that_starts_again_and_again_is_named(
    every: int, named: set[Labels], line: Timeline, tmp_path: Path
) -> None:
    """Every scrape meets one that runs. Once in a quarter of an hour an operator may do."""
    line.daemon("emotion_start_timestamp_seconds", lambda at: at - at % every)

    assert line.run(tmp_path).ever == named


@pytest.mark.parametrize("minutes", [8, 12])
def test_a_daemon_whose_starts_hide_a_silent_camera_is_named_itself(
    minutes: int, line: Timeline, tmp_path: Path
) -> None:
    """Each of its lives is too short for a camera to count as silent, or nearly so."""
    line.until = 150 * MINUTE
    line.camera("camera_1", heard=stops_at(BEGIN))
    line.daemon("emotion_start_timestamp_seconds", lambda at: at - at % (minutes * MINUTE))

    fired = line.run(tmp_path)
    assert alert("EmotionDaemonRestarts") in fired.between(0, 90 * MINUTE)
    assert fired.ever <= {alert("EmotionDaemonRestarts"), SILENT}


def test_a_prometheus_whose_clock_is_minutes_off_calls_nothing_out(line: Timeline, tmp_path: Path) -> None:
    for camera, ahead in (("camera_1", 2 * MINUTE), ("camera_2", -2 * MINUTE)):
        line.camera(camera, heard=lambda at, ahead=ahead: at + ahead)  # type: ignore[misc]

    assert line.run(tmp_path).ever == set()


def test_a_camera_is_silent_after_five_minutes_and_not_before(line: Timeline, tmp_path: Path) -> None:
    line.camera("camera_1", heard=stops_at(BEGIN, again_at=END))
    line.camera("camera_2", heard=stops_at(BEGIN, again_at=BEGIN + 4.9 * MINUTE))

    fired = line.run(tmp_path)
    assert fired.between(0, BEGIN + 5 * MINUTE) == set()
    assert fired.at[BEGIN + 7 * MINUTE] == fired.ever == {SILENT}
    assert fired.between(END + 15) == set()


def test_cameras_that_fall_silent_at_once_are_one_alert(line: Timeline, tmp_path: Path) -> None:
    """Until one is back; camera_3 was heard for the last time a week ago."""
    line.camera("camera_1", heard=stops_at(BEGIN))
    line.camera("camera_2", heard=stops_at(BEGIN + 40, again_at=END))
    line.camera("camera_3", heard=always(-7 * DAY))

    fired = line.run(tmp_path)
    assert fired.at[BEGIN + 7 * MINUTE] == fired.between(0, END - 15) == {ALL_SILENT}
    assert fired.at[END + 2 * MINUTE] == fired.between(END + 15) == {SILENT}


def test_a_camera_that_is_heard_and_refused_is_not_silent_with_all_others(line: Timeline, tmp_path: Path) -> None:
    line.camera("camera_1", heard=stops_at(BEGIN))
    line.camera("camera_2", heard=stops_at(BEGIN))
    line.daemon("emotion_device_rejected_messages_total", one_every(30), device_id="camera_2")

    fired = line.run(tmp_path)
    assert fired.at[END] == fired.ever == {SILENT, alert("EmotionMessagesRejected", device_id="camera_2")}


def test_cameras_of_another_daemon_on_the_same_database_are_not_silent(line: Timeline, tmp_path: Path) -> None:
    """Each daemon reads at its start when all were heard, and hears only those of its broker from then on."""
    line.until = 100 * MINUTE
    line.camera("camera_1", heard=lambda at: at if at < BEGIN or at >= 80 * MINUTE else BEGIN)
    line.camera("camera_2", heard=always(0))
    line.another_daemon("camera_2", knows="camera_1")

    fired = line.run(tmp_path)
    assert fired.at[BEGIN + 10 * MINUTE] == fired.ever == {SILENT}
    assert fired.between(80 * MINUTE + 15) == set()


@pytest.mark.parametrize(
    ("series", "name"),
    [
        ("up", "EmotionDaemonDown"),
        ("emotion_broker_connected", "EmotionBrokerDown"),
        ("emotion_loop_age_seconds", "EmotionDaemonStalled"),
        ("emotion_database_wait_seconds", "EmotionDatabaseHangs"),
    ],
)
def test_an_alert_about_a_shard_names_it(series: str, name: str, line: Timeline, tmp_path: Path) -> None:
    line.another_daemon(knows="camera_1")
    second = 'instance="daemon-2:9464"'
    line.figures = {each.replace(second, f'{second},shard="2"'): figure for each, figure in line.figures.items()}
    (failing,) = [each for each in line.figures if each.startswith(series) and 'shard="2"' in each]
    line.figures[failing] = hangs if "seconds" in series else during(BEGIN, END, 0, otherwise=1)

    assert line.run(tmp_path).ever == {alert(name, shard="2")}


def test_a_daemon_whose_clock_was_ahead_at_its_start_hides_no_silent_camera(line: Timeline, tmp_path: Path) -> None:
    line.daemon("emotion_start_timestamp_seconds", always(3 * HOUR))
    line.camera("camera_1", heard=lambda at: BEGIN + 6 * HOUR if at >= BEGIN else at)
    line.camera("camera_2")

    fired = line.run(tmp_path)
    assert fired.at[BEGIN + 7 * MINUTE] == fired.ever == {SILENT}


@pytest.mark.parametrize("outage", ["broker", "database", "daemon", "frozen", "loop"])
def test_a_camera_that_does_not_come_back_after_an_outage_is_silent(
    outage: str, line: Timeline, tmp_path: Path
) -> None:
    """It does not fire before ten minutes have passed: until then the silence is not known."""
    line.camera("camera_1", heard=stops_at(BEGIN))
    line.camera("camera_2")
    if outage == "broker":
        line.daemon("emotion_broker_connected", during(BEGIN, END, 0, otherwise=1))
    elif outage == "database":
        line.daemon("emotion_database_failing", during(BEGIN, END, 1, otherwise=0), reason="locked")
    elif outage == "loop":
        line.daemon("emotion_loop_age_seconds", hangs)
    else:
        line.daemon_is_away(BEGIN, END, frozen=outage == "frozen")

    fired = line.run(tmp_path)
    assert SILENT not in fired.between(0, END + 10 * MINUTE)
    assert fired.at[END + 12 * MINUTE] == fired.at[UNTIL] == {SILENT}


def test_a_camera_that_was_silent_before_an_outage_is_not_named_during_it(line: Timeline, tmp_path: Path) -> None:
    line.camera("camera_1", heard=stops_at(600))
    line.daemon("emotion_broker_connected", during(BEGIN, FOR_EVER, 0, otherwise=1))

    fired = line.run(tmp_path)
    assert fired.at[BEGIN - MINUTE] == {SILENT}
    assert fired.between(BEGIN + 15) == {alert("EmotionBrokerDown")}


def test_a_machine_that_was_off_accuses_no_camera(line: Timeline, tmp_path: Path) -> None:
    """Daemon and Prometheus come back at the same moment, and Prometheus remembers a system that was well."""
    comes_back_late(line)
    line.daemon_is_away(BEGIN, END)
    line.prometheus_is_away(BEGIN, END)

    assert line.run(tmp_path).between(END) == set()


def test_a_camera_of_last_week_is_forgotten(line: Timeline, tmp_path: Path) -> None:
    line.camera("camera_1", heard=always(-6.9 * DAY))
    line.camera("camera_2", heard=always(-7 * DAY))

    assert line.run(tmp_path).ever == {SILENT}


def test_a_device_whose_messages_are_all_rejected_sends_rubbish_and_is_not_silent(
    line: Timeline, tmp_path: Path
) -> None:
    line.camera("camera_1", heard=stops_at(BEGIN))
    line.daemon(
        "emotion_device_rejected_messages_total",
        lambda at: None if at < BEGIN else (at - BEGIN) // 30,
        device_id="camera_1",
    )

    fired = line.run(tmp_path)
    assert fired.between(0, BEGIN + 5 * MINUTE) == set()
    assert fired.at[END] == fired.ever == {SENDS_RUBBISH}


def test_a_device_that_sends_nothing_but_rubbish_is_named_however_seldom(line: Timeline, tmp_path: Path) -> None:
    """It does not matter if there ever was a batch of it."""
    without(line, "camera_1")
    devices = set()
    for seconds in (60, 90, 100, 120, 150, 200, 240, 290, 355):
        for name in (f"every_{seconds}", f"only_every_{seconds}"):
            line.daemon("emotion_device_rejected_messages_total", one_every(seconds), device_id=name)
            devices.add(name)
        line.camera(f"every_{seconds}", heard=stops_at(BEGIN))

    fired = line.run(tmp_path)
    rubbish = {alert("EmotionMessagesRejected", device_id=name) for name in devices}
    assert all(fired.at[moment] == rubbish for moment in fired.at if moment >= BEGIN + 20 * MINUTE)
    assert fired.ever == rubbish


def test_a_device_that_sends_rubbish_every_ten_minutes_is_one_of_the_two(line: Timeline, tmp_path: Path) -> None:
    line.camera("camera_1", heard=stops_at(BEGIN))
    line.daemon("emotion_device_rejected_messages_total", one_every(10 * MINUTE), device_id="camera_1")

    fired = line.run(tmp_path)
    later = [moment for moment in fired.at if BEGIN + 6 * MINUTE < moment < UNTIL - 6 * MINUTE]
    assert all(fired.between(moment, moment + 6 * MINUTE) for moment in later)
    assert fired.ever <= {SENDS_RUBBISH, SILENT}


def test_a_rejected_message_just_before_an_outage_is_no_alert(line: Timeline, tmp_path: Path) -> None:
    line.daemon("emotion_device_rejected_messages_total", during(0, BEGIN - 30, 1, otherwise=2), device_id="camera_1")
    line.daemon_is_away(BEGIN, END)

    assert line.run(tmp_path).ever == {alert("EmotionDaemonDown")}


def above_limit(device_id: str, line: Timeline, start: float, end: float) -> None:
    """The daemon has the series only while the device is above the limit."""
    for name in ("emotion_device_messages_per_second", "emotion_device_bytes_per_second"):
        line.daemon(name, lambda at: 1_000 if start <= at < end else None, device_id=device_id)


def test_a_device_that_floods_for_more_than_ten_minutes_is_named_until_it_stops(line: Timeline, tmp_path: Path) -> None:
    above_limit("camera_1", line, BEGIN, END)

    fired = line.run(tmp_path)
    assert fired.between(0, BEGIN + 9 * MINUTE) == fired.between(END + MINUTE) == set()
    assert fired.at[BEGIN + 11 * MINUTE] == fired.ever == {alert("EmotionDeviceFloods", device_id="camera_1")}


def test_a_backlog_that_a_device_sends_within_nine_minutes_is_no_alert(line: Timeline, tmp_path: Path) -> None:
    above_limit("camera_1", line, BEGIN, BEGIN + 9 * MINUTE)
    line.camera(
        "camera_1", skew=lambda at: min(-0.1, -DAY + DAY / (9 * MINUTE) * (at - BEGIN)) if at >= BEGIN else -0.1
    )

    assert line.run(tmp_path).ever == set()


def test_whoever_publishes_on_a_topic_of_no_device_is_named(line: Timeline, tmp_path: Path) -> None:
    """But not for a few messages, nor for what had waited with the broker."""
    line.rejected("topic", lambda at: 3 * (at >= 600) + 500 * (at >= 1_200) + (max(0, at - BEGIN) // 60))
    line.rejected("json", lambda at: at // 30)

    fired = line.run(tmp_path)
    assert fired.between(0, BEGIN + 5 * MINUTE) == set()
    assert fired.at[END] == fired.ever == {alert("EmotionUnknownTopic", reason="topic")}


def test_a_burst_of_rejected_messages_is_no_alert(line: Timeline, tmp_path: Path) -> None:
    """As what waited with the broker during an outage; nor is one every three minutes."""
    line.daemon("emotion_device_rejected_messages_total", during(0, BEGIN, 3, otherwise=500), device_id="camera_1")
    line.daemon("emotion_device_rejected_messages_total", lambda at: at // 180, device_id="camera_2")
    line.camera("camera_2")

    assert line.run(tmp_path).ever == set()


def test_a_clock_that_is_off_by_more_than_a_minute_is_named(line: Timeline, tmp_path: Path) -> None:
    wrong = set()
    for skew in (-1.8e9, -90.0, 90.0, 1.8e9):
        name, good = f"off_by_{skew:.0f}", f"off_by_50_and_not_{skew:.0f}"
        line.camera(name, skew=lambda at, skew=skew: skew + at % 7 if BEGIN <= at < END + 5 * MINUTE else 0.1)  # type: ignore[misc]
        line.camera(good, skew=always(skew / abs(skew) * 50))
        wrong.add(alert("EmotionDeviceClockWrong", device_id=name))

    fired = line.run(tmp_path)
    assert fired.at[END] == fired.ever == wrong
    assert fired.between(END + 6 * MINUTE) == set()


@pytest.mark.parametrize(
    "skew",
    [
        pytest.param(lambda at: min(0.0, BEGIN - at), id="it stands still"),
        pytest.param(lambda at: -600.0 + 40 * (at % MINUTE == 0), id="10 minutes late, and it jumps"),
    ],
)
def test_a_clock_need_not_be_steady_to_be_wrong(skew: Figure, line: Timeline, tmp_path: Path) -> None:
    line.camera("camera_1", skew=skew)

    fired = line.run(tmp_path)
    assert fired.at[BEGIN + 15 * MINUTE] == fired.at[UNTIL] == fired.ever == {CLOCK_WRONG}


def test_a_clock_is_wrong_whoever_sends_a_batch_every_three_minutes(line: Timeline, tmp_path: Path) -> None:
    line.camera("camera_1", heard=lambda at: at - at % 180, skew=always(3_600))

    fired = line.run(tmp_path)
    assert fired.at[UNTIL] == fired.ever == {CLOCK_WRONG}


def test_impossible_stamps_are_a_wrong_clock_wherever_they_jump(line: Timeline, tmp_path: Path) -> None:
    """camera_2 has had such timestamps, and drains a backlog now."""
    line.camera("camera_1", skew=lambda at: -1.6e9 + 1e6 * (at % 7))
    line.camera("camera_2", skew=lambda at: min(-0.1, -3 * HOUR + 3 * at))
    line.daemon("emotion_device_restamped_batches_total", lambda at: at // 15, device_id="camera_1")
    line.daemon("emotion_device_restamped_batches_total", always(7), device_id="camera_2")

    assert line.run(tmp_path).ever == {CLOCK_WRONG}


def test_a_backlog_that_is_drained_for_half_an_hour_is_no_wrong_clock(line: Timeline, tmp_path: Path) -> None:
    """Three hours of batches, six times as fast as they were made; nor is one that grows."""
    line.camera("camera_1", skew=lambda at: min(-0.1, -3 * HOUR + 6 * (at - BEGIN)) if at >= BEGIN else -0.1)
    line.camera("camera_2", skew=lambda at: -at / 5)

    assert line.run(tmp_path).ever == set()


def test_a_device_whose_last_batch_had_waited_has_no_wrong_clock_for_that(line: Timeline, tmp_path: Path) -> None:
    line.camera("camera_1", heard=stops_at(BEGIN), skew=lambda at: -3_000 if at >= BEGIN else 0)

    assert line.run(tmp_path).ever == {SILENT}


def test_a_minute_of_anything_is_no_alert(line: Timeline, tmp_path: Path) -> None:
    line.daemon("emotion_broker_connected", during(600, 645, 0, otherwise=1))
    line.daemon("emotion_database_failing", during(900, 945, 1, otherwise=0), reason="locked")
    line.daemon("emotion_database_disk_free_bytes", during(600, 840, 9e9, otherwise=50e9))
    line.api("up", during(600, 660, 0, otherwise=1))
    line.api("emotion_api_database_up", during(900, 960, 0, otherwise=1))
    line.daemon_is_away(1_200, 1_260)

    assert line.run(tmp_path).ever == set()
