"""The settings of all processes: their defaults, and a sentence for each value that cannot work."""

import dataclasses
from pathlib import Path

import pytest

from shared.settings import Settings, SettingsError


def read(**environ: str) -> Settings:
    return Settings.from_environ(environ)


class TestDefaults:
    def test_an_empty_environment_gives_the_documented_defaults(self) -> None:
        settings = read()

        assert settings == Settings(
            database_url="sqlite:///emotion.db",
            mqtt_host="localhost",
            mqtt_port=1883,
            mqtt_username=None,
            mqtt_password=None,
            mqtt_client_id="emotion-daemon",
            mqtt_topic_prefix="emotions",
            mqtt_tls_ca=None,
            rabbitmq_url=None,
            api_tokens=(),
            cors_origins=("http://localhost:3000", "http://127.0.0.1:3000"),
            allowed_hosts=(),
            device_names={"jetson_1": "Entrance Camera"},
            silent_after=30.0,
            time_zone="UTC",
            log_level="INFO",
            sql_echo=False,
            daemon_http_address=None,
            totals_only=False,
            device_messages_per_second=20.0,
            device_bytes_per_second=65_536.0,
            people_retention_days=None,
            history_retention_days=None,
            unknown=(),
        )

    def test_an_empty_value_counts_as_not_set(self) -> None:
        names = ["DATABASE_URL", "MQTT_HOST", "MQTT_PORT", "CORS_ORIGINS", "DEVICE_NAMES", "SQL_ECHO", "MQTT_TLS_CA"]
        names += ["API_TOKEN", "API_TOKEN_FILE"]

        assert read(**{f"EMOTION_{name}": " " for name in names}) == read()

    def test_variables_of_other_programs_are_left_alone(self) -> None:
        assert read(PATH="/bin", HOME="/root", EMOTIONAL="yes") == read()

    def test_settings_cannot_be_changed(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            read().mqtt_port = 1  # type: ignore[misc]


class TestValues:
    def test_every_setting_is_read(self) -> None:
        settings = read(
            EMOTION_DATABASE_URL="postgresql+psycopg://me@db/emotion",
            EMOTION_MQTT_HOST="broker",
            EMOTION_MQTT_PORT="8883",
            EMOTION_MQTT_USERNAME="daemon",
            EMOTION_MQTT_PASSWORD="secret",
            EMOTION_MQTT_CLIENT_ID="daemon-2",
            EMOTION_MQTT_TOPIC_PREFIX="site/emotions",
            EMOTION_API_TOKEN="0123456789abcdef",
            EMOTION_CORS_ORIGINS="https://a.example, https://b.example:8443,",
            EMOTION_ALLOWED_HOSTS="Dashboard.example.com., server, 192.0.2.1,",
            EMOTION_DEVICE_NAMES="jetson_1=Hall, jetson_2 = Yard = North",
            EMOTION_SILENT_AFTER_SECONDS="2.5",
            EMOTION_TIME_ZONE="Australia/Lord_Howe",
            EMOTION_LOG_LEVEL="debug",
            EMOTION_SQL_ECHO="Yes",
            EMOTION_DAEMON_HTTP_ADDRESS="127.0.0.1:9464",
            EMOTION_TOTALS_ONLY="on",
            EMOTION_DEVICE_MESSAGES_PER_SECOND="0",
            EMOTION_DEVICE_BYTES_PER_SECOND="1e6",
            EMOTION_PEOPLE_RETENTION_DAYS="30",
            EMOTION_HISTORY_RETENTION_DAYS="0.5",
        )

        assert settings == Settings(
            database_url="postgresql+psycopg://me@db/emotion",
            mqtt_host="broker",
            mqtt_port=8883,
            mqtt_username="daemon",
            mqtt_password="secret",
            mqtt_client_id="daemon-2",
            mqtt_topic_prefix="site/emotions",
            api_tokens=("0123456789abcdef",),
            cors_origins=("https://a.example", "https://b.example:8443"),
            allowed_hosts=("dashboard.example.com", "server", "192.0.2.1"),
            device_names={"jetson_1": "Hall", "jetson_2": "Yard = North"},
            silent_after=2.5,
            time_zone="Australia/Lord_Howe",
            log_level="DEBUG",
            sql_echo=True,
            daemon_http_address=("127.0.0.1", 9464),
            totals_only=True,
            device_messages_per_second=0.0,
            device_bytes_per_second=1e6,
            people_retention_days=30.0,
            history_retention_days=0.5,
        )

    def test_a_metrics_address_may_be_of_ipv6(self) -> None:
        assert read(EMOTION_DAEMON_HTTP_ADDRESS="[::1]:9464").daemon_http_address == ("::1", 9464)

    @pytest.mark.parametrize("url", ["http://rabbitmq-1:15672", "https://broker.example.com", "http://[::1]:15672"])
    def test_the_management_api_of_rabbitmq_has_a_web_address(self, url: str) -> None:
        assert read(EMOTION_RABBITMQ_URL=f"{url}/").rabbitmq_url == url

    @pytest.mark.parametrize("value", ["1", "true", "TRUE", "yes", "on"])
    def test_a_flag_is_on(self, value: str) -> None:
        assert read(EMOTION_SQL_ECHO=value).sql_echo

    @pytest.mark.parametrize("value", ["0", "false", "False", "no", "off"])
    def test_a_flag_is_off(self, value: str) -> None:
        assert not read(EMOTION_SQL_ECHO=value).sql_echo

    @pytest.mark.parametrize(
        ("text", "origin"),
        [
            ("https://dash.example.com:443", "https://dash.example.com"),
            ("http://dash.example.com:80", "http://dash.example.com"),
            ("http://dash.example.com:443", "http://dash.example.com:443"),
            ("HTTPS://Dash.Example.COM:8443", "https://dash.example.com:8443"),
            ("http://localhost:03000", "http://localhost:3000"),
            ("http://localhost:", "http://localhost"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("http://[0:0:0:0:0:0:0:1]:3000", "http://[::1]:3000"),
            ("http://[FE80::A]", "http://[fe80::a]"),
            ("https://xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example"),
            ("http://my_pc.", "http://my_pc."),
        ],
    )
    def test_an_origin_is_what_a_browser_sends(self, text: str, origin: str) -> None:
        assert read(EMOTION_CORS_ORIGINS=text).cors_origins == (origin,)

    def test_an_origin_counts_once(self) -> None:
        assert read(EMOTION_CORS_ORIGINS="http://a,http://A:80").cors_origins == ("http://a",)

    @pytest.mark.parametrize("host", ["broker", "broker.example.com", "192.0.2.1", "::1", "fe80::1%eth0"])
    def test_a_broker_has_a_name_or_an_address(self, host: str) -> None:
        assert read(EMOTION_MQTT_HOST=host).mqtt_host == host

    @pytest.mark.parametrize(
        "hosts",
        ["host=A:5432&host=B:5433", "host=A,B&port=5432,5433", "host=A,B", "host=::1,::2", "host=/run/postgresql"],
    )
    def test_a_database_may_have_several_servers(self, hosts: str) -> None:
        url = f"postgresql+psycopg://me:p,w@/emotion?{hosts}&target_session_attrs=read-write"
        assert read(EMOTION_DATABASE_URL=url).database_url == url

    @pytest.mark.parametrize(
        "servers",
        [
            "A,B/emotion",
            "A:5432,B:5432/emotion?target_session_attrs=read-write",
            "A,B:5432/emotion",
            "A:5432/emotion?host=B:5432",
            "/emotion?host=A:5432,B:5432",
            "/emotion?host=A,B&port=5432",
            "/emotion?host=A:5432&host=B:5432&port=5432",
            "/emotion?host=[::1]:5432&host=[::2]:5432",
        ],
    )
    def test_servers_that_libpq_would_not_find_get_the_right_form(self, servers: str) -> None:
        with pytest.raises(SettingsError, match=r"\?host=A:5432&host=B:5432&target_session_attrs=read-write$"):
            read(EMOTION_DATABASE_URL=f"postgresql+psycopg://me:p,w@{servers}")

    def test_device_names_cannot_be_changed(self) -> None:
        with pytest.raises(TypeError):
            read().device_names["x"] = "y"  # type: ignore[index]


WRONG = [
    *(
        ("EMOTION_DAEMON_HTTP_ADDRESS", value)
        for value in ("9464", "localhost", ":9464", "a b:1", "http://a:1", "a:0", "a:x")
    ),
    *(("EMOTION_PEOPLE_RETENTION_DAYS", value) for value in ("0", "-1", "nan", "inf", "36501", "a month")),
    ("EMOTION_HISTORY_RETENTION_DAYS", "0"),
    ("EMOTION_TOTALS_ONLY", "maybe"),
    ("EMOTION_DATABASE_URL", "emotion.db"),
    ("EMOTION_DATABASE_URL", "mysql://localhost/emotion"),
    ("EMOTION_DATABASE_URL", "postgresql://localhost/emotion"),
    ("EMOTION_DATABASE_URL", "postgresql+psycopg://localhost:port/emotion"),
    ("EMOTION_DATABASE_URL", "postgresql+psycopg://me@/emotion?host=A&target_session_attrs=rw"),
    ("EMOTION_DATABASE_URL", "sqlite+aiosqlite:///emotion.db"),
    ("EMOTION_DATABASE_URL", "sqlite://"),
    ("EMOTION_DATABASE_URL", "sqlite:///:memory:"),
    ("EMOTION_DATABASE_URL", "sqlite:///file:emotion.db?uri=true"),
    ("EMOTION_DATABASE_URL", "sqlite:///emotion.db?mode=ro"),
    ("EMOTION_DATABASE_URL", "sqlite:////"),
    ("EMOTION_MQTT_HOST", "http://localhost"),
    ("EMOTION_MQTT_HOST", "local host"),
    *(("EMOTION_MQTT_HOST", value) for value in ("broker:1883", "127.0.0.1:1883", "[::1]", "[::1]:1883", "::1:x")),
    ("EMOTION_MQTT_PORT", "0"),
    ("EMOTION_MQTT_PORT", "65536"),
    ("EMOTION_MQTT_PORT", "-1"),
    ("EMOTION_MQTT_PORT", "1883.0"),
    ("EMOTION_MQTT_PORT", "mqtt"),
    ("EMOTION_MQTT_PORT", "9" * 5_000),
    ("EMOTION_MQTT_PASSWORD", "secret"),
    ("EMOTION_MQTT_CLIENT_ID", "emotion daemon"),
    ("EMOTION_MQTT_CLIENT_ID", "x" * 65),
    ("EMOTION_MQTT_TOPIC_PREFIX", "emotions/"),
    ("EMOTION_MQTT_TOPIC_PREFIX", "/emotions"),
    ("EMOTION_MQTT_TOPIC_PREFIX", "a//b"),
    ("EMOTION_MQTT_TOPIC_PREFIX", "emotions/+"),
    ("EMOTION_MQTT_TOPIC_PREFIX", "#"),
    ("EMOTION_MQTT_TOPIC_PREFIX", "$share/group/emotions"),
    ("EMOTION_MQTT_TOPIC_PREFIX", "emo\ntions"),
    ("EMOTION_RABBITMQ_URL", "rabbitmq-1:15672"),
    ("EMOTION_RABBITMQ_URL", "amqp://rabbitmq-1"),
    ("EMOTION_RABBITMQ_URL", "http://rabbitmq-1:99999"),
    ("EMOTION_RABBITMQ_URL", "http://user:password@rabbitmq-1"),
    ("EMOTION_MQTT_TLS_CA", "/no/such/file.pem"),
    ("EMOTION_MQTT_TLS_CA", "/"),
    ("EMOTION_MQTT_TLS_CA", f"/{'x' * 300}.pem"),
    ("EMOTION_MQTT_TLS_CA", __file__),
    *(("EMOTION_ALLOWED_HOSTS", value) for value in (
        "*", "http://server", "server:8000", "server,-x", "server..", ".", "300.1.1.1", "127.1", "0X7F", "server.1",
        "[::1",
    )),
    ("EMOTION_CORS_ORIGINS", "*"),
    ("EMOTION_CORS_ORIGINS", "localhost:3000"),
    ("EMOTION_CORS_ORIGINS", "http://localhost:3000/"),
    ("EMOTION_CORS_ORIGINS", "http://localhost:3000/path"),
    ("EMOTION_CORS_ORIGINS", "http://localhost:port"),
    ("EMOTION_CORS_ORIGINS", "http://localhost:99999"),
    ("EMOTION_CORS_ORIGINS", "http://[::1"),
    ("EMOTION_CORS_ORIGINS", "http://"),
    ("EMOTION_CORS_ORIGINS", "ftp://localhost"),
    ("EMOTION_CORS_ORIGINS", "null"),
    ("EMOTION_CORS_ORIGINS", "http://localhost:3000,*"),
    *(("EMOTION_CORS_ORIGINS", f"https://{host}") for host in (
        "*.example.com", "user@host", "me:pw@host", "münchen.example", "a b", "a https://b", "a;b", "127.1",
        "0x7f000001", "1.2.3.4.5", "a..b", "%61.example", "-a", "a:0", "::1", "[::1]x", "[fe80::1%eth0]", "[127.0.0.1]",
        "a?", "a#",
    )),
    ("EMOTION_DEVICE_NAMES", ","),
    ("EMOTION_DEVICE_NAMES", "jetson_1"),
    ("EMOTION_DEVICE_NAMES", "jetson_1="),
    ("EMOTION_DEVICE_NAMES", "jetson_1=Hall,jetson_1=Door"),
    ("EMOTION_DEVICE_NAMES", "=Hall"),
    ("EMOTION_DEVICE_NAMES", "jetson 1=Hall"),
    ("EMOTION_DEVICE_NAMES", f"jetson_1={'x' * 201}"),
    ("EMOTION_DEVICE_NAMES", "jetson_1=Ha\x07ll"),
    ("EMOTION_SILENT_AFTER_SECONDS", "0"),
    ("EMOTION_SILENT_AFTER_SECONDS", "-1"),
    ("EMOTION_SILENT_AFTER_SECONDS", "inf"),
    ("EMOTION_SILENT_AFTER_SECONDS", "nan"),
    ("EMOTION_SILENT_AFTER_SECONDS", "30s"),
    *(("EMOTION_TIME_ZONE", value) for value in ("Berlin", "europe/berlin", "+01:00", "Europe", "../etc/passwd", "ü")),
    *(("EMOTION_DEVICE_MESSAGES_PER_SECOND", value) for value in ("-1", "inf", "nan", "20/s")),
    ("EMOTION_LOG_LEVEL", "LOUD"),
    ("EMOTION_LOG_LEVEL", "10"),
    ("EMOTION_SQL_ECHO", "maybe"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG, ids=[f"{name}={value:.30}" for name, value in WRONG])
def test_a_wrong_value_is_one_sentence_that_begins_with_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(**{name: value})

    sentence = str(caught.value)
    assert caught.value.name == name
    assert sentence.startswith(f"{name} ")
    assert sentence.isprintable()


class TestSecrets:
    @pytest.mark.parametrize(
        ("name", "attribute"),
        [("DATABASE_URL", "database_url"), ("MQTT_USERNAME", "mqtt_username"), ("MQTT_PASSWORD", "mqtt_password")],
    )
    def test_a_secret_may_stand_in_a_file(self, tmp_path: Path, name: str, attribute: str) -> None:
        file = tmp_path / "secret"
        file.write_text("sqlite:///elsewhere.db\n", encoding="utf-8")
        settings = read(
            **{"EMOTION_MQTT_USERNAME": "" if name == "MQTT_USERNAME" else "me", f"EMOTION_{name}_FILE": str(file)}
        )

        assert getattr(settings, attribute) == "sqlite:///elsewhere.db"
        assert settings.unknown == ()

    def test_a_value_counts_more_than_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("from the file")
        settings = read(EMOTION_MQTT_USERNAME="direct", EMOTION_MQTT_USERNAME_FILE=str(tmp_path / "secret"))

        assert settings.mqtt_username == "direct"
        assert settings.unknown == ("EMOTION_MQTT_USERNAME_FILE does nothing, because EMOTION_MQTT_USERNAME is set",)

    def test_a_file_that_is_not_there_is_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"EMOTION_MQTT_PASSWORD_FILE is .* cannot be read: No such file"):
            read(EMOTION_MQTT_PASSWORD_FILE=str(tmp_path / "secret"))

    def test_a_file_that_is_no_text_is_a_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"\xff\xfe")

        with pytest.raises(
            SettingsError, match=r"EMOTION_MQTT_PASSWORD_FILE is .* cannot be read: it is not UTF-8 text"
        ):
            read(EMOTION_MQTT_PASSWORD_FILE=str(tmp_path / "secret"))

    def test_what_is_no_secret_is_not_read_from_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "host").write_text("broker")
        settings = read(EMOTION_MQTT_HOST_FILE=str(tmp_path / "host"))

        assert settings.mqtt_host == "localhost"
        assert "EMOTION_MQTT_HOST_FILE is not a setting" in settings.unknown[0]

    def test_secrets_are_not_in_the_representation(self) -> None:
        settings = read(
            EMOTION_DATABASE_URL="postgresql+psycopg://me:hunter2@db/emotion",
            EMOTION_MQTT_USERNAME="me",
            EMOTION_MQTT_PASSWORD="hunter2",
        )

        assert "hunter2" not in repr(settings)

    def test_a_wrong_database_url_does_not_show_its_password(self) -> None:
        with pytest.raises(SettingsError) as caught:
            read(EMOTION_DATABASE_URL="mysql://me:hunter2@db/emotion")

        assert "hunter2" not in str(caught.value)


class TestTokens:
    """EMOTION_API_TOKEN: several tokens, and never one of them in a sentence."""

    ONE, OTHER = "0123456789abcdef", "ABC.def_ghi~jkl-mno+pqr/stu=="

    @pytest.mark.parametrize("between", [",", " ", "\n", ", ", " ,\r\n\t, "])
    def test_commas_and_white_space_stand_between_tokens(self, between: str) -> None:
        settings = read(EMOTION_API_TOKEN=f"{between}{self.ONE}{between}{self.OTHER}{between}")

        assert settings.api_tokens == (self.ONE, self.OTHER)

    @pytest.mark.parametrize("length", [16, 4_096])
    def test_the_shortest_and_the_longest_are_taken(self, length: int) -> None:
        assert read(EMOTION_API_TOKEN="x" * length).api_tokens == ("x" * length,)

    def test_a_file_has_one_a_line_and_comments(self, tmp_path: Path) -> None:
        (tmp_path / "tokens").write_text(f"# dashboard\n{self.ONE}\n\n  # phone, since May\r\n{self.OTHER}\r\n#\n")

        settings = read(EMOTION_API_TOKEN_FILE=str(tmp_path / "tokens"))

        assert settings.api_tokens == (self.ONE, self.OTHER)
        assert settings.unknown == ()

    @pytest.mark.parametrize("content", ["", "\n", "# no token yet\n"])
    def test_a_file_without_a_token_asks_for_none(self, content: str, tmp_path: Path) -> None:
        (tmp_path / "tokens").write_text(content)

        assert read(EMOTION_API_TOKEN_FILE=str(tmp_path / "tokens")).api_tokens == ()

    def test_a_value_counts_more_than_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "tokens").write_text(self.OTHER)

        settings = read(EMOTION_API_TOKEN=self.ONE, EMOTION_API_TOKEN_FILE=str(tmp_path / "tokens"))

        assert settings.api_tokens == (self.ONE,)

    def test_commas_alone_do_not_open_the_api(self) -> None:
        with pytest.raises(SettingsError, match="EMOTION_API_TOKEN has commas and no token: put one in"):
            read(EMOTION_API_TOKEN=" , ,")

    @pytest.mark.parametrize(
        "token",
        [
            "0123456789abcde",
            "x" * 4_097,
            "sécret-0123456789",
            "secret:0123456789",
            '"secret-0123456789"',
            "name=secret-0123456789",
            "Bearer-0123456789?",
            "#secret-0123456789",
            "=" * 16,
        ],
    )
    def test_a_token_that_cannot_be_one_is_told_by_its_number_and_not_shown(self, token: str) -> None:
        with pytest.raises(SettingsError) as caught:
            read(EMOTION_API_TOKEN=f"{self.ONE} {token}")

        sentence = str(caught.value)
        assert sentence == (
            "EMOTION_API_TOKEN has a token (number 2 of 2) that is not 16 to 4,096 of A-Z a-z 0-9 - . _ ~ + / "
            "with = at the end only: `openssl rand -hex 32` makes a good one"
        )

    def test_what_is_wrong_in_a_file_is_told_with_the_name_of_its_variable(self, tmp_path: Path) -> None:
        (tmp_path / "tokens").write_text(f"{self.ONE} # dashboard\n")

        with pytest.raises(SettingsError) as caught:
            read(EMOTION_API_TOKEN_FILE=str(tmp_path / "tokens"))

        assert caught.value.name == "EMOTION_API_TOKEN_FILE"
        assert "number 2 of 3" in str(caught.value)
        assert self.ONE not in str(caught.value)

    def test_a_file_that_is_not_there_stops_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"EMOTION_API_TOKEN_FILE is .* cannot be read: No such file"):
            read(EMOTION_API_TOKEN_FILE=str(tmp_path / "tokens"))

    def test_tokens_are_not_in_the_representation(self) -> None:
        assert self.ONE not in repr(read(EMOTION_API_TOKEN=self.ONE))


class TestUnknown:
    def test_an_unknown_variable_is_named(self) -> None:
        assert read(EMOTION_COLOUR="blue").unknown == ("EMOTION_COLOUR is not a setting and does nothing",)

    def test_a_slip_of_the_pen_is_guessed(self) -> None:
        (sentence,) = read(EMOTION_MQTT_PROT="1884").unknown

        assert sentence == "EMOTION_MQTT_PROT is not a setting and does nothing; did you mean EMOTION_MQTT_PORT?"

    def test_several_are_named_in_order_and_without_their_values(self) -> None:
        unknown = read(EMOTION_ZZ="hunter2", EMOTION_AA="hunter2").unknown

        assert [sentence.split()[0] for sentence in unknown] == ["EMOTION_AA", "EMOTION_ZZ"]
        assert "hunter2" not in "".join(unknown)
