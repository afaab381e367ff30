"""Settings: where a value comes from, and what is said of a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from lambay.settings import Settings


def test_the_argument_wins_over_the_environment_and_that_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAMBAY_PORT", "5000")
    monkeypatch.setenv("LAMBAY_REGION", "eu-west-1")

    settings = Settings.load(port=6000)

    assert (settings.port, settings.region, settings.host) == (6000, "eu-west-1", "127.0.0.1")


@pytest.mark.parametrize(
    ("variable", "text", "complaint"),
    [
        ("LAMBAY_PORT", "http", "LAMBAY_PORT: 'http' is not a whole number"),
        ("LAMBAY_PORT", "70000", "70000 is not within 0 and 65535"),
        ("LAMBAY_ALLOW_RESET", "maybe", "LAMBAY_ALLOW_RESET: 'maybe' is not a yes or no"),
        ("LAMBAY_ACCOUNT", "123", "'123' is not 12 digits"),
        ("LAMBAY_TRANSPORT", "pigeon", "'pigeon' is not auto, io_uring or classic"),
        ("LAMBAY_OTLP_ENDPOINT", "localhost:4318", "'localhost:4318' is not a URL"),
        ("LAMBAY_LOG_FORMAT", "xml", "'xml' is not text or json"),
        ("LAMBAY_LOG_LEVEL", "loud", "'loud' is not debug, info, warning or error"),
    ],
)
def test_a_bad_value_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, complaint: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ValueError, match=complaint):
        Settings.load()


def test_two_data_directories_have_two_tags_and_one_has_always_the_same(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "a")

    one, same, other = (Settings(data_dir=path).tag for path in (tmp_path / "a", link, tmp_path / "b"))

    assert one == same != other
