from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sse_core import EventParser, Hub, TopicOptions
from sse_core.topics import RUN_OPTIONS as CORE_RUN_OPTIONS
from sse_kit.hub import RUN_OPTIONS, create_hubs
from sse_kit.server import TooManyWorkersError, gunicorn_settings, within_open_files
from sse_kit.settings import Settings, TopicSettings


def test_hub_options_are_settings() -> None:
    """Every option of a hub is a setting of the same name and default; the backplane and a function are none."""
    parameters = inspect.signature(Hub).parameters
    options = {
        name: each.default for name, each in parameters.items() if name not in ("backplane", "topics", "authorize")
    }

    settings = Settings().model_dump()

    assert {name: settings[name] for name in options} == options


def test_topic_options_are_settings() -> None:
    """The options of a topic are settings of the same names and defaults."""
    assert TopicSettings().options() == TopicOptions()


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings come from variables with our prefix; mappings and lists are JSON."""
    monkeypatch.setenv("SSE_KIT_MAX_STREAMS", "7")
    monkeypatch.setenv("SSE_KIT_LOGS", '{"nginx": "/var/log/nginx/access.log"}')
    monkeypatch.setenv("SSE_KIT_CORS_ORIGINS", '["https://a.example"]')
    monkeypatch.setenv("SSE_KIT_TOPICS", '{"prices/*": {"policy": "latest", "history_events": 1}}')
    settings = Settings()

    assert settings.max_streams == 7
    assert settings.logs == {"nginx": Path("/var/log/nginx/access.log")}
    assert settings.cors_origins == ("https://a.example",)
    assert settings.topics["prices/*"].options() == TopicOptions(policy="latest", history_events=1)


def test_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given in code, as the command line does, wins over the environment."""
    monkeypatch.setenv("SSE_KIT_THREADS", "7")

    assert Settings(threads=3).threads == 3


def test_every_setting_is_described() -> None:
    """Every setting says what it is."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    "origin", ["https://a.example", "http://localhost:8000", "http://[::1]:8080", "https://1.2.3.4"]
)
def test_exact_origins(origin: str) -> None:
    """An origin as browsers send it is taken."""
    assert Settings(cors_origins=(origin,)).cors_origins == (origin,)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"logs": {"a/b": "/x"}}, "no name for a log"),
        ({"logs": {"": "/x"}}, "no name for a log"),
        ({"logs": {"a": "x.log"}}, "not absolute"),
        ({"cors_origins": ["*"]}, "no exact origin"),
        ({"cors_origins": ["https://*.example"]}, "no exact origin"),
        ({"cors_origins": ["https://a.example/"]}, "no exact origin"),
        ({"cors_origins": ["a.example"]}, "no exact origin"),
        ({"cors_origins": ["null"]}, "no exact origin"),
        ({"cors_origins": ["https://a.example:443"]}, "the scheme's own port"),
        ({"cors_origins": ["https://user@a.example"]}, "no exact origin"),
        ({"cors_origins": ["https://A.example"]}, "lower case"),
        ({"drain_seconds": 28}, "graceful_timeout must exceed"),
        ({"drain_retry": [2, 1]}, "drain_retry"),
        ({"max_log_line_bytes": 50_000}, "max_log_line_bytes"),
        ({"max_streams": 0}, "max_streams"),
        ({"topics": {"a": {"polcy": "skip"}}}, "polcy"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_wrong_settings(wrong: dict[str, Any], reason: str) -> None:
    """A wrong setting is refused, and the reason names it."""
    with pytest.raises(ValidationError, match=reason.replace("*", r"\*")):
        Settings(**wrong)


def test_server_topics_show_the_newest() -> None:
    """Who lags behind the server's own counters gets the newest, unless the settings say otherwise."""

    def first_of_two(settings: Settings) -> str | None:
        with create_hubs(settings)["default"] as hub:
            for number in range(2):
                hub.publish("server/stats", number)
            stream = hub.subscribe("server/stats", last_event_id="0-0")
            parser = EventParser()
            event = next(event for chunk in stream for event in parser.feed(chunk))
            stream.close()
        return event.data

    assert first_of_two(Settings()) == "1"
    assert first_of_two(Settings(topics={"server/*": TopicSettings(policy="skip")})) == "0"


@pytest.mark.parametrize("topics", [{}, {"*": {"policy": "skip"}}, {"run/*": {"ends": True, "history_events": 10}}])
def test_runs_have_an_end(topics: Any) -> None:
    """A pattern for all topics leaves runs what they are; one for runs alone is taken, if it says that they end."""
    with create_hubs(Settings(topics=topics))["default"] as hub:
        assert hub.produce(lambda: iter(["a"])).wait(10)

    with pytest.raises(ValidationError, match="set ends to true"):
        Settings(topics={"run/*": TopicSettings(history_events=10)})


def test_runs_have_the_options_that_a_hub_gives_them() -> None:
    """The service has no other idea of a run than the core."""
    assert RUN_OPTIONS == CORE_RUN_OPTIONS


def test_one_worker() -> None:
    """More than one worker is refused, and the reason says what would be lost."""
    with pytest.raises(TooManyWorkersError, match="history live in one process's memory"):
        gunicorn_settings(Settings(workers=2))


def test_streams_within_open_files() -> None:
    """No more streams are taken than descriptors can be had, so that an accept never fails for want of one: beside them
    are connections that are answered, as many again on their way out, and a spare."""
    settings = Settings(max_streams=5000, worker_connections=100)

    assert within_open_files(settings, 1456).max_streams == 1000
    assert within_open_files(settings, 5455).max_streams == 4999
    assert within_open_files(settings, 5456).max_streams == 5000
    assert within_open_files(settings, 1_000_000).max_streams == 5000
    assert within_open_files(settings, None).max_streams == 5000
    assert within_open_files(settings, 10).max_streams == 1
