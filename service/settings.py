"""The service's options: the only place that reads the environment.

Every field is an environment variable with the prefix ``SSE_KIT_`` (``SSE_KIT_MAX_STREAMS=20000``); mappings and lists are
JSON (``SSE_KIT_LOGS='{"nginx": "/var/log/nginx/access.log"}'``). An option of the command line wins over the environment.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from sse_core import TopicError, TopicOptions, check_topic

from .addresses import check_proxies
from .backplane import DEFAULT_NAMESPACE, MEMORY, check_backplane
from .grants import GrantError
from .grants import parse as parse_grants
from .jwks import check_url
from .keys import KeyRefusedError, from_text
from .loglines import INITIAL_BYTES
from .names import MAX_TOPIC_BYTES, compile_alphabet
from .origins import serialize
from .sessions import MAX_SUBJECT_CHARACTERS, MAX_TOKEN_CHARACTERS, MIN_TOKEN_CHARACTERS, TOKEN
from .topics import RUN_PREFIX, WATCH_PREFIX

# Begins with a letter or digit, or it would not survive as a segment of a path: "." and ".." are taken out on the way.
NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
LOG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

# What a byte of a log line can grow to on the wire: a control character becomes \u0000 in JSON.
JSON_BYTES_PER_BYTE = 6
# The keys, the time and the mark of a cut line around the text of a log line.
LOG_EVENT_OVERHEAD_BYTES = 512
# Likewise around a watched value: its key is in there too, escaped.
WATCH_EVENT_OVERHEAD_BYTES = 2048

OPENAI_URL = "https://api.openai.com/v1"

Policy = Literal["disconnect", "skip", "latest"]


class TopicSettings(BaseModel):
    """The options of the topics that match one pattern: the fields of `sse_core.TopicOptions`, one to one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Policy = Field(default="disconnect", description="What happens to a subscriber that lags.")
    history_events: PositiveInt = Field(default=1000, description="Events kept for those who resume. Events.")
    history_bytes: PositiveInt = Field(default=1 << 20, description="Framed bytes kept for those who resume. Bytes.")
    history_age: NonNegativeFloat = Field(
        default=3600.0, description="Age at which an event is forgotten; 0: never. Seconds."
    )
    lag_bytes: PositiveInt = Field(
        default=1 << 20, description="Lag at which the policy applies to a subscriber. Bytes."
    )
    ends: bool = Field(default=False, description="Whether an event named done or failed is the topic's last.")

    def options(self) -> TopicOptions:
        """The same as the core's own value."""
        return TopicOptions(
            policy=self.policy,
            history_events=self.history_events,
            history_bytes=self.history_bytes,
            history_age=self.history_age,
            lag_bytes=self.lag_bytes,
            ends=self.ends,
        )


class Settings(BaseSettings):
    """All options of one service process. Immutable; a wrong value is refused with the field's name."""

    # Hidden, because a validation error would else quote the backplane's password into whatever log it ends in.
    model_config = SettingsConfigDict(env_prefix="SSE_KIT_", extra="forbid", frozen=True, hide_input_in_errors=True)

    # -- the listening side, as gunicorn sees it (see server.py for the reasons behind the values) ------------------------
    bind: str = Field(default="127.0.0.1:8000", description="HOST:PORT or unix:PATH.")
    workers: PositiveInt = Field(
        default=1, description="Worker processes; more than 1 needs a backplane that joins them."
    )
    threads: PositiveInt = Field(default=8, description="Threads that answer requests; an open stream holds none.")
    worker_connections: PositiveInt = Field(
        default=1000, description="Connections being answered or kept alive. Connections."
    )
    backlog: PositiveInt = Field(default=4096, description="Connections the kernel may queue. Connections.")
    http_keepalive: PositiveInt = Field(default=75, description="How long an idle HTTP connection is kept. Seconds.")
    timeout: PositiveInt = Field(default=30, description="Silence after which a worker is killed. Seconds.")
    graceful_timeout: PositiveInt = Field(default=30, description="Time to stop, drain included. Seconds.")
    forwarded_allow_ips: str = Field(
        default="127.0.0.1,::1",
        description="Proxies, addresses and networks, whose X-Forwarded-For and X-Forwarded-Proto are believed.",
    )
    max_request_line_bytes: Annotated[int, Field(ge=256, le=65_534)] = Field(
        default=8190, description="Method, address and version of a request. Bytes."
    )
    max_header_bytes: Annotated[int, Field(ge=256, le=65_534)] = Field(
        default=8190, description="One header field of a request. Bytes."
    )
    max_headers: Annotated[int, Field(ge=16, le=32_768)] = Field(
        default=100, description="Header fields of a request. Fields."
    )

    # -- what joins processes ------------------------------------------------------------------------------------------------
    backplane: SecretStr = Field(
        default=SecretStr(MEMORY),
        description="memory, or the URL of a Redis: redis://, rediss://, unix://, redis+sentinel://, redis+cluster://.",
    )
    backplane_timeout: PositiveFloat = Field(
        default=5.0, description="Silence of Redis that means it is away. Seconds."
    )
    backplane_replicas: NonNegativeInt = Field(
        default=0, description="Replicas that must have an event before its publisher is answered (WAIT). Replicas."
    )
    key_window: PositiveFloat = Field(default=120.0, description="How long an idempotency key is remembered. Seconds.")
    max_keys: Annotated[int, Field(ge=2)] = Field(
        default=200_000, description="Idempotency keys that a namespace remembers; each line of a log takes one. Keys."
    )
    namespaces: tuple[str, ...] = Field(
        default=(DEFAULT_NAMESPACE,),
        description="Feeds of their own under /n/NAME/; default, which is /events and /publish, is always one.",
    )

    # -- the hub: one field for each of its options ------------------------------------------------------------------------
    loops: PositiveInt = Field(default=1, description="Native threads that write to streams.")
    keepalive: PositiveFloat = Field(default=15.0, description="Longest silence on a stream. Seconds.")
    retry: NonNegativeInt = Field(default=2000, description="Reconnect delay told to clients. Milliseconds.")
    send_timeout: PositiveFloat = Field(default=30.0, description="A subscriber blocked longer is gone. Seconds.")
    gap_event: str = Field(default="gap", min_length=1, description="Name of the event that says what was lost.")
    max_event_bytes: PositiveInt = Field(default=262_144, description="Size of one framed event. Bytes.")
    max_streams: PositiveInt = Field(default=100_000, description="Open streams of this process. Streams.")
    max_topics: PositiveInt = Field(default=100_000, description="Topics of one namespace in this process. Topics.")
    max_stream_topics: PositiveInt = Field(default=100, description="Topics of one stream. Topics.")
    max_history_bytes: PositiveInt = Field(default=1 << 30, description="History of all topics of a namespace. Bytes.")
    mailbox_bytes: PositiveInt = Field(default=16 << 20, description="What publishers may be ahead of a loop. Bytes.")
    max_producers: PositiveInt = Field(default=100, description="Runs of this process, a thread each. Runs.")
    ahead_bytes: PositiveInt = Field(
        default=1 << 20, description="What a run may be ahead of the slowest who listens. Bytes."
    )
    drain_seconds: PositiveFloat = Field(
        default=5.0, description="Time over which streams are closed on stop. Seconds."
    )
    drain_retry: tuple[NonNegativeInt, NonNegativeInt] = Field(
        default=(1000, 5000),
        description="Range of the reconnect delay told to clients that are sent away. Milliseconds.",
    )
    io_uring: bool = Field(
        default=True, description="Whether many sends may go in one system call, where Linux allows it. Boolean."
    )
    topics: dict[str, TopicSettings] = Field(
        default_factory=dict, description="Shell-style pattern to options; the first match wins."
    )

    # -- one client, of many ---------------------------------------------------------------------------------------------
    max_streams_per_address: PositiveInt = Field(
        default=1000, description="Open streams of one address in this process, for a namespace. Streams."
    )
    max_streams_per_subject: PositiveInt = Field(
        default=1000, description="Open streams of one subject in this process, for a namespace. Streams."
    )
    publish_rate: NonNegativeFloat = Field(
        default=1000.0, description="What one client may publish to this process; 0: no bound. Events per second."
    )
    publish_burst: PositiveInt = Field(default=2000, description="What it may publish at once, after a pause. Events.")
    max_producers_per_client: PositiveInt = Field(
        default=50, description="Runs of one client in this process, of max_producers. Runs."
    )
    max_topic_bytes: Annotated[int, Field(ge=1, le=MAX_TOPIC_BYTES)] = Field(
        default=MAX_TOPIC_BYTES, description="Name of a topic that a client names, in UTF-8. Bytes."
    )
    topic_characters: str = Field(
        default="any", description="Its alphabet: any, ascii, url, or a character class such as [a-z0-9/]."
    )

    # -- publishing ----------------------------------------------------------------------------------------------------------
    max_body_bytes: PositiveInt = Field(default=1 << 20, description="Body of a publish request. Bytes.")
    max_batch_events: PositiveInt = Field(default=1000, description="Lines of one ndjson publish request. Events.")

    # -- logs ----------------------------------------------------------------------------------------------------------------
    logs: dict[str, Path] = Field(default_factory=dict, description="Name to absolute path of each log to show.")
    log_initial_lines: NonNegativeInt = Field(
        default=100, description="Lines read from a log's end at the start. Lines."
    )
    log_catch_up_bytes: Annotated[int, Field(ge=INITIAL_BYTES)] = Field(
        default=16 << 20,
        description="A log that nobody read is caught up with by so much; beyond it is skipped. Bytes.",
    )
    max_log_line_bytes: Annotated[int, Field(ge=64)] = Field(default=16_384, description="Longer lines are cut. Bytes.")
    log_linger: PositiveFloat = Field(default=10.0, description="A renamed log is read on for this long. Seconds.")

    # -- uploads, and jobs on them -----------------------------------------------------------------------------------------
    max_upload_bytes: PositiveInt = Field(default=64 << 20, description="Size of an uploaded file. Bytes.")
    max_jobs: PositiveInt = Field(
        default=4, description="Files of this process that come in, each holding a thread, or are worked on. Files."
    )
    upload_timeout: PositiveInt = Field(default=600, description="Time in which a file must have come. Seconds.")
    min_free_bytes: NonNegativeInt = Field(
        default=256 << 20, description="What uploads leave free on the disk that they are kept on. Bytes."
    )
    job_folder: Path | None = Field(
        default=None, description="Folder on that disk; none: the system's for temporary files."
    )
    job_bytes_per_second: NonNegativeInt = Field(
        default=0, description="How fast a job reads its file; 0: as fast as it can. Bytes per second."
    )

    # -- keys of a Redis ---------------------------------------------------------------------------------------------------
    watch_keys: tuple[str, ...] = Field(
        default=(), max_length=64, description="Keys whose values may be watched at /watch/KEY, each exact."
    )
    watch_url: SecretStr = Field(
        default=SecretStr(""), description="The Redis that has them, one server or sentinels; empty: the backplane's."
    )
    watch_configure: bool = Field(
        default=False, description="Whether that server may be told to send keyspace notifications, if it does not."
    )
    watch_interval: PositiveFloat = Field(
        default=2.0, description="How often the keys are read without notifications. Seconds."
    )
    watch_pause: NonNegativeFloat = Field(
        default=0.05, description="Least time between two values of a key; the newest is published. Seconds."
    )
    max_watch_value_bytes: PositiveInt = Field(default=16_384, description="A longer value is not shown. Bytes.")

    # -- demonstrations ----------------------------------------------------------------------------------------------------
    max_demo_events: PositiveInt = Field(default=1000, description="Messages of one /demo/ticker. Events.")
    max_demo_interval: PositiveInt = Field(default=10, description="Time between two of a /demo/ stream. Seconds.")
    max_demo_characters: PositiveInt = Field(default=1000, description="Text of one /demo/echo. Code points.")
    demo_counter_interval: PositiveFloat = Field(default=2.0, description="Beat of /demo/counter. Seconds.")

    # -- who may ask -------------------------------------------------------------------------------------------------------
    anonymous: bool = Field(
        default=False, description="Whether everybody may do everything although others can reach the address."
    )
    tokens: dict[str, SecretStr] = Field(
        default_factory=dict, description="Who may use the service, each with a secret token; none: everybody."
    )
    grants: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="What subjects of those tokens may do; one who is not in it may everything."
    )
    jwt_algorithms: tuple[Literal["HS256", "RS256", "ES256", "EdDSA"], ...] = Field(
        default=(), description="Algorithms of JSON Web Tokens that are accepted."
    )
    jwt_keys: dict[str, SecretStr] = Field(
        default_factory=dict, description="Keys that these are checked with, by kid: a public key in PEM, or a secret."
    )
    jwt_key_file: Path | None = Field(
        default=None, description="A file of such keys: a JSON Web Key Set, or one public key in PEM."
    )
    jwks_url: str = Field(default="", description="Where such keys are published, as a JSON Web Key Set.")
    jwks_seconds: PositiveFloat = Field(default=300.0, description="How long those are used as they are. Seconds.")
    jwks_least_seconds: PositiveFloat = Field(
        default=30.0, description="Least time between two questions to that URL, whatever tokens name. Seconds."
    )
    jwks_most_seconds: PositiveFloat = Field(
        default=86_400.0, description="How long keys are used while that URL does not answer. Seconds."
    )
    jwks_timeout: PositiveFloat = Field(default=5.0, description="Time that the URL has for an answer. Seconds.")
    jwt_issuer: str | None = Field(default=None, min_length=1, description="The iss that a token must have; null: any.")
    jwt_audience: tuple[str, ...] = Field(
        default=("sse-kit",), min_length=1, description="A token's aud must name one of these."
    )
    jwt_leeway: Annotated[float, Field(ge=0, le=300)] = Field(
        default=10.0, description="How far the clocks may be apart. Seconds."
    )
    jwt_claim: str = Field(default="sse", min_length=1, description="The claim that says what a token grants.")
    max_token_bytes: Annotated[int, Field(ge=256, le=7000)] = Field(
        default=4096, description="Size of a JSON Web Token. Bytes."
    )
    query_token: bool = Field(
        default=False, description="Whether a token may be sent as the parameter access_token, as a last resort."
    )
    metrics_open: bool = Field(default=True, description="Whether /metrics needs no token.")
    max_revocations: PositiveInt = Field(default=10_000, description="Tokens, subjects and topics shut out. Entries.")
    session_seconds: Annotated[int, Field(gt=0, le=365 * 86_400)] = Field(
        default=43_200, description="How long a browser that signed in stays so. Seconds."
    )

    # -- language models -----------------------------------------------------------------------------------------------------
    llm_provider: Literal["echo", "openai", "anthropic"] = Field(
        default="echo", description="What answers /generate if a request names nothing."
    )
    llm_models: tuple[str, ...] | None = Field(
        default=None, description="Models that a request may name, besides a provider's own; null: any."
    )
    max_prompt_bytes: PositiveInt = Field(
        default=65_536, description="A prompt, and a system prompt, in UTF-8; max_body_bytes bounds both. Bytes."
    )
    max_tokens: PositiveInt = Field(default=4096, description="The most that a request may ask for. Tokens.")
    llm_connect_timeout: PositiveFloat = Field(default=5.0, description="Time to connect to a provider. Seconds.")
    llm_timeout: PositiveFloat = Field(default=60.0, description="Silence of a provider that ends an answer. Seconds.")
    llm_max_seconds: PositiveFloat = Field(default=600.0, description="Time that one answer may take. Seconds.")
    llm_max_answer_bytes: PositiveInt = Field(
        default=64 << 20, description="What a provider may send for one answer, its own format included. Bytes."
    )
    llm_retries: NonNegativeInt = Field(
        default=2, description="Further attempts while nothing has come of an answer. Attempts."
    )
    llm_abandon_after: PositiveFloat = Field(
        default=30.0, description="Time without a listener after which an answer is given up. Seconds."
    )
    echo_interval: PositiveFloat = Field(default=0.05, description="Time for each word of the provider echo. Seconds.")
    openai_model: str | None = Field(
        default=None, min_length=1, description="The default model of the provider openai; null: there is no such one."
    )
    openai_base_url: str = Field(
        default=OPENAI_URL, description="OpenAI, or any server with the same chat completions."
    )
    openai_api_key: SecretStr | None = Field(default=None, description="Null for a server that asks for none.")
    openai_token_limit: Literal["max_tokens", "max_completion_tokens"] | None = Field(
        default=None, description="What that server calls the bound on tokens; null: by its URL."
    )
    anthropic_model: str | None = Field(
        default=None,
        min_length=1,
        description="The default model of the provider anthropic; null: there is no such one.",
    )
    anthropic_base_url: str = Field(default="https://api.anthropic.com", description="Where its API is.")
    anthropic_api_key: SecretStr | None = Field(default=None, description="The key that goes with it.")

    # -- cross-origin --------------------------------------------------------------------------------------------------------
    cors_origins: tuple[str, ...] = Field(default=(), description="Origins that may call from a browser, each exact.")
    cors_credentials: bool = Field(default=False, description="Whether those origins may send cookies.")

    # -- our own log ---------------------------------------------------------------------------------------------------------
    log_format: Literal["json", "console"] = Field(default="json", description="How our own log is written to stderr.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is written."
    )
    doctor: bool = Field(default=True, description="Whether `sse-kit doctor` is told what arrives here.")
    log_streams: bool = Field(default=True, description="Whether the end of each stream is logged, at level info.")
    stats_interval: PositiveFloat = Field(default=1.0, description="Beat of server/stats and server/metric. Seconds.")

    @property
    def watch_place(self) -> str:
        """The URL of the Redis with the watched keys."""
        return self.watch_url.get_secret_value() or self.backplane.get_secret_value()

    @property
    def takes_web_tokens(self) -> bool:
        """Whether there is a key to check a JSON Web Token with."""
        return bool(self.jwt_keys or self.jwt_key_file or self.jwks_url)

    @property
    def joins_processes(self) -> bool:
        """Whether the backplane makes several processes one service."""
        return self.backplane.get_secret_value() != MEMORY

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _proxies_are_addresses(cls, proxies: str) -> str:
        return check_proxies(proxies)

    @field_validator("topic_characters")
    @classmethod
    def _alphabet_is_one(cls, characters: str) -> str:
        compile_alphabet(characters)
        return characters

    @field_validator("backplane")
    @classmethod
    def _backplane_is_known(cls, backplane: SecretStr) -> SecretStr:
        return SecretStr(check_backplane(backplane.get_secret_value()))

    @field_validator("watch_url")
    @classmethod
    def _watch_url_is_known(cls, url: SecretStr) -> SecretStr:
        if url.get_secret_value() and check_backplane(url.get_secret_value()) == MEMORY:
            raise ValueError("a Redis has the keys: redis://HOST:PORT/DB")
        return url

    @field_validator("watch_keys")
    @classmethod
    def _watch_keys_are_topics(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        for key in keys:
            try:
                check_topic(WATCH_PREFIX + key)
            except TopicError as error:
                raise ValueError(f"{key!r} cannot be watched: {error}") from None
            if not key.strip():
                raise ValueError("an empty key cannot be watched")
        return tuple(dict.fromkeys(keys))

    @field_validator("namespaces")
    @classmethod
    def _namespaces_are_names(cls, namespaces: tuple[str, ...]) -> tuple[str, ...]:
        for name in namespaces:
            if not NAMESPACE.fullmatch(name):
                raise ValueError(
                    f"{name!r} is no name for a namespace: letters, digits, '.', '_', '-', at most 64, "
                    "a letter or digit first"
                )
        return tuple(dict.fromkeys((DEFAULT_NAMESPACE, *namespaces)))

    @field_validator("topics")
    @classmethod
    def _runs_have_an_end(cls, topics: dict[str, TopicSettings]) -> dict[str, TopicSettings]:
        for pattern, options in topics.items():
            if pattern.startswith(RUN_PREFIX) and not options.ends:
                raise ValueError(f"topics that match {pattern!r} are runs, which have an end: set ends to true")
        return topics

    @field_validator("logs")
    @classmethod
    def _logs_are_named_and_absolute(cls, logs: dict[str, Path]) -> dict[str, Path]:
        for name, path in logs.items():
            if not LOG_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name for a log: letters, digits, '.', '_', '-', at most 64")
            if not path.is_absolute():
                raise ValueError(f"the path of log {name!r} is not absolute: {path}")
        return logs

    @field_validator("job_folder")
    @classmethod
    def _job_folder_can_be_used(cls, folder: Path | None) -> Path | None:
        # Here, and not with somebody's first upload. A file needs a name to be made, even one that is to have none.
        if folder is not None and not (
            folder.is_absolute() and folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
        ):
            raise ValueError(f"{folder} is no absolute path of a folder that this user may write to")
        return folder

    @field_validator("tokens")
    @classmethod
    def _tokens_are_secrets(cls, tokens: dict[str, SecretStr]) -> dict[str, SecretStr]:
        owners: dict[str, str] = {}
        for subject, secret in tokens.items():
            if not 0 < len(subject) <= MAX_SUBJECT_CHARACTERS or not subject.isprintable():
                raise ValueError(f"{subject!r} is no subject: 1 to {MAX_SUBJECT_CHARACTERS} printable characters")
            # The token itself is never quoted.
            token = secret.get_secret_value()
            if not MIN_TOKEN_CHARACTERS <= len(token) <= MAX_TOKEN_CHARACTERS or not TOKEN.fullmatch(token):
                raise ValueError(
                    f"the token of {subject!r} must be {MIN_TOKEN_CHARACTERS} to {MAX_TOKEN_CHARACTERS} letters, digits "
                    "and - . _ ~ + /, with = only at its end; a random one: openssl rand -hex 32"
                )
            if token in owners:
                raise ValueError(
                    f"{owners[token]!r} and {subject!r} have the same token: whose it is could not be told"
                )
            owners[token] = subject
        return tokens

    @field_validator("grants")
    @classmethod
    def _grants_are_well_formed(cls, grants: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for subject, value in grants.items():
            try:
                parse_grants(value)
            except GrantError as error:
                raise ValueError(f"{subject!r}: {error}") from None
        return grants

    @field_validator("jwt_keys")
    @classmethod
    def _keys_can_be_used(cls, keys: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for kid, key in keys.items():
            try:
                from_text(kid, key.get_secret_value())
            except KeyRefusedError as error:
                # Says what is wrong with the key, and not what it is.
                raise ValueError(f"{kid!r}: {error}") from None
        return keys

    @field_validator("jwks_url")
    @classmethod
    def _keys_come_safely(cls, url: str) -> str:
        if url:
            check_url(url)
        return url

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_exact(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            # A wildcard would be echoed to every site together with credentials: there is no safe half-way.
            if "*" in origin or origin != serialize(origin):
                raise ValueError(
                    f"{origin!r} is no exact origin; write it as browsers send it: scheme://host[:port] in lower case, "
                    "without '*', path or the scheme's own port"
                )
        return origins

    @field_validator("openai_base_url", "anthropic_base_url")
    @classmethod
    def _base_urls_are_urls(cls, url: str) -> str:
        # A user in it would be sent to the provider, and end in its log and ours.
        if serialize(url) is None or "@" in url or "?" in url or "#" in url:
            raise ValueError("must be http://HOST[:PORT][/PATH] or https://..., without a user, a query and a fragment")
        return url

    @model_validator(mode="after")
    def _tokens_can_be_checked(self) -> Settings:
        if self.takes_web_tokens and not self.jwt_algorithms:
            raise ValueError(
                "jwt_algorithms must name the algorithms that are accepted: the keys alone do not decide it"
            )
        if self.jwt_algorithms and not self.takes_web_tokens:
            raise ValueError("jwt_algorithms needs keys: jwt_keys, jwt_key_file or jwks_url")
        for kid, key in self.jwt_keys.items():
            if (algorithm := from_text(kid, key.get_secret_value()).algorithm) not in self.jwt_algorithms:
                raise ValueError(f"jwt_keys: {kid!r} is a key for {algorithm}, which jwt_algorithms does not name")
        if self.jwks_url and self.jwt_issuer is None:
            raise ValueError("jwks_url needs jwt_issuer: who publishes keys may sign for more than this service")
        if unknown := self.grants.keys() - self.tokens.keys():
            raise ValueError(f"grants: {sorted(unknown)[0]!r} has no token in tokens")
        return self

    @model_validator(mode="after")
    def _providers_are_complete(self) -> Settings:
        if self.openai_model and not self.openai_api_key and self.openai_base_url == OPENAI_URL:
            raise ValueError("openai_model needs openai_api_key, or an openai_base_url that asks for none")
        if self.anthropic_model and not self.anthropic_api_key:
            raise ValueError("anthropic_model needs anthropic_api_key")
        if self.llm_provider != "echo" and getattr(self, f"{self.llm_provider}_model") is None:
            raise ValueError(f"llm_provider {self.llm_provider} needs {self.llm_provider}_model")
        return self

    @model_validator(mode="after")
    def _keys_can_be_watched(self) -> Settings:
        if not self.watch_keys:
            return self
        if self.watch_place == MEMORY:
            raise ValueError("watch_keys needs a Redis: set watch_url, or a backplane")
        if "+cluster://" in self.watch_place:
            # Its keyspace notifications are of each node alone, and a connection to one would be silent about the others.
            raise ValueError("watch_keys cannot be those of a Cluster: set watch_url to one server or to sentinels")
        return self

    @model_validator(mode="after")
    def _numbers_agree(self) -> Settings:
        if self.drain_seconds + 2 >= self.graceful_timeout:
            # The arbiter's clock starts first and ends in SIGKILL: streams would be cut instead of sent away.
            raise ValueError("graceful_timeout must exceed drain_seconds by more than 2 s")
        if self.drain_retry[0] > self.drain_retry[1]:
            raise ValueError("drain_retry must be [least, most]")
        if self.publish_rate and self.publish_burst < self.max_batch_events:
            raise ValueError("publish_burst must be at least max_batch_events, or a full batch would never be taken")
        if self.max_log_line_bytes * JSON_BYTES_PER_BYTE + LOG_EVENT_OVERHEAD_BYTES > self.max_event_bytes:
            # Else one legal line of control characters could not be published, and the log would stop at it.
            raise ValueError(
                f"max_log_line_bytes must be at most (max_event_bytes - {LOG_EVENT_OVERHEAD_BYTES}) / {JSON_BYTES_PER_BYTE}"
            )
        if self.max_watch_value_bytes * JSON_BYTES_PER_BYTE + WATCH_EVENT_OVERHEAD_BYTES > self.max_event_bytes:
            raise ValueError(
                "max_watch_value_bytes must be at most "
                f"(max_event_bytes - {WATCH_EVENT_OVERHEAD_BYTES}) / {JSON_BYTES_PER_BYTE}"
            )
        return self
