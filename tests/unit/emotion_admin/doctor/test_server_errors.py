import pytest

from emotion_admin.doctor.server_errors import advice

FAILED = 'connection failed: connection to server at "127.0.0.1", port 5432 failed:'


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (f'{FAILED} FATAL:  password authentication failed for user "emotion"', "Correct user and password"),
        (f'{FAILED} FATAL:  database "emotion" does not exist', "Create it"),
        (f"{FAILED} FATAL:  sorry, too many clients already", "max_connections"),
        (f"{FAILED} Connection refused", "listen_addresses"),
        ("connection timeout expired", "firewalls"),
        ("failed to resolve host 'db': [Errno -2] Name or service not known", "Correct the host"),
        ("another reason", "Check that the server runs"),
    ],
)
def test_each_reason_has_its_own_advice(reason: str, said: str) -> None:
    assert said in advice(reason)
    assert reason == "another reason" or "Check that the server runs" not in advice(reason)
