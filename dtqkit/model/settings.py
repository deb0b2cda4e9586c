"""Settings: one frozen object, read from the environment once, when it is first needed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec

from dtqkit.model.errors import SettingsError, redact

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Bytes = Annotated[int, msgspec.Meta(ge=1, le=8 * 1024 * 1024)]

#: Fields whose value must never be shown.
SECRET = frozenset({"redis_url", "atlas_uri", "token", "read_token", "sentry_dsn"})

#: The environment variables of each field, the first that is set wins; all others are DTQ_<FIELD>.
_VARIABLES: dict[str, tuple[str, ...]] = {
    "redis_url": ("REDIS_URL",),
    "atlas_uri": ("ATLAS_URI", "MONGODB_URI"),
    "port": ("PORT",),
    "ws_port": ("WS_PORT",),
    "worker_id": ("WORKER_ID",),
    "num_workers": ("NUM_WORKERS",),
    "max_workers": ("MAX_WORKERS",),
    "autoscale_threshold": ("AUTOSCALE_THRESHOLD",),
    "cors_origins": ("CORS_ORIGINS",),
    "sentry_dsn": ("SENTRY_DSN",),
    "allowed_hosts": ("DTQ_ALLOWED_HOSTS", "RENDER_EXTERNAL_HOSTNAME"),
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be set. `Settings.from_env()` reads it from the environment; nothing is read at import."""

    redis_url: str = "redis://127.0.0.1:6379/0"
    atlas_uri: str = "mongodb://127.0.0.1:27017"
    #: MongoDB database, before the namespace's suffix.
    database: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,38}$")] = "dtqkit"
    #: Prefix of every Redis key and suffix of the database: queues of different namespaces never meet.
    namespace: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{0,24}$")] = ""

    port: Port = 3000
    ws_port: Port = 8080
    token: str = ""
    read_token: str = ""
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    #: How many trusted proxies are in front of the server (true: one). The client's address is then the entry that the
    #: outermost of them wrote into X-Forwarded-For: 1 for a load balancer or Render, 2 for a CDN before those.
    behind_proxy: bool | Annotated[int, msgspec.Meta(ge=0, le=9)] = 0
    #: How long a server that got SIGTERM still serves new connections: load balancers need that time to notice.
    drain_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 5.0
    sentry_dsn: str = ""

    worker_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{0,64}$")] = ""
    num_workers: Count = 3
    max_workers: Count = 8
    #: Waiting jobs per worker above which another worker is started.
    autoscale_threshold: Count = 20
    #: How long a submit is retried while MongoDB does not accept it, e.g. while it elects a primary.
    submit_wait_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.0
    #: Jobs that a worker runs at a time.
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 8
    #: Child processes that run a worker's `def` tasks; 0: the smaller of 2 and the cores.
    children: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    #: Jobs after which a child is replaced by a fresh one.
    child_jobs: Count = 1000
    #: How long a stopping worker lets its jobs run on before it gives them back.
    grace_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 25.0

    #: Whether a worker logs a line for each job that ends.
    log_jobs: bool = True

    #: Time between two heartbeats of a worker; one is dead after 4.5 of them without one, a leader's lock lasts 2.
    heartbeat_s: Annotated[float, msgspec.Meta(ge=0.05, le=60)] = 2.0
    #: How long a claim holds without a renewal; rounds of recovery run each third of it.
    lease_s: Annotated[float, msgspec.Meta(ge=0.5, le=3600)] = 180.0
    retention_days: Annotated[float, msgspec.Meta(gt=0, le=3650)] = 30.0
    #: Bytes of a payload and of a result, as JSON.
    max_payload: Bytes = 256 * 1024
    max_result: Bytes = 1024 * 1024
    #: Automatic requeues of a job that failed by a lost worker, a timeout or a store.
    dead_letter_recoveries: Annotated[int, msgspec.Meta(ge=0, le=100)] = 1
    dead_letter_cooldown_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 300.0

    @classmethod
    def default(cls) -> Settings:
        """The settings of a queue that was given none: the environment's; in a worker's child, the worker's."""
        return cls.from_env() if _inherited is None else _inherited

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Settings from `environ` (default: the process's), where `overrides` win.

        Raises SettingsError, which names the variable, its value and what is allowed.
        """
        env = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        if environ is None and _inherited is not None:  # the environment of a child has no secrets
            values = {field: getattr(_inherited, field) for field in SECRET}
        for field in cls.__struct_fields__:
            for variable in variables(field):
                text = env.get(variable, "").strip()
                if text:
                    values[field] = _parse(field, variable, text)
                    break
        return cls(**values).replace(**overrides) if overrides else cls(**values)

    def replace(self, **changes: Any) -> Settings:
        """A copy with `changes`, checked as the environment is."""
        checked: dict[str, Any] = {}
        for field, value in changes.items():
            if field not in self.__struct_fields__:
                raise SettingsError(f"there is no setting {field!r}; see dtqkit.model.settings.Settings")
            checked[field] = _check(field, field, value)
        return msgspec.structs.replace(self, **checked)

    def without_tokens(self) -> Settings:
        """The same without tokens, which only a server needs."""
        return msgspec.structs.replace(self, token="", read_token="", sentry_dsn="")

    def secrets(self) -> tuple[str, ...]:
        """Tokens and the passwords of addresses: no log may show them."""
        found = [str(getattr(self, field)) for field in SECRET]
        found += [part for url in (self.redis_url, self.atlas_uri) for part in _passwords(url)]
        return tuple(filter(None, found))

    @property
    def database_name(self) -> str:
        return f"{self.database}_{self.namespace}" if self.namespace else self.database

    @property
    def silence_s(self) -> float:
        """How long without a heartbeat until a worker counts as dead."""
        return 4.5 * self.heartbeat_s

    @property
    def recovered_s(self) -> float:
        """How long it takes at most, while the stores answer, until a job of a dead worker is listed again."""
        return 7.5 * self.heartbeat_s

    @property
    def lock_s(self) -> float:
        """How long a leader's lock lasts without being renewed."""
        return 2 * self.heartbeat_s

    @property
    def inflight_s(self) -> float:
        """How long a popped id may stay unclaimed before it is put back."""
        return min(30.0, self.lease_s / 6)

    @property
    def round_s(self) -> float:
        """Time between two looks for leases that are over, two reconciliations, two renewals."""
        return self.lease_s / 3

    @property
    def child_count(self) -> int:
        return self.children or min(2, os.cpu_count() or 1)

    def __repr__(self) -> str:
        def shown(field: str) -> str:
            value = getattr(self, field)
            if field not in SECRET or not value:
                return repr(value)
            return repr(redact(value)) if "://" in value and field != "sentry_dsn" else "'***'"

        return f"Settings({', '.join(f'{f}={shown(f)}' for f in self.__struct_fields__)})"


def _passwords(url: str) -> tuple[str, ...]:
    """The password in an address, both percent-encoded and decoded."""
    user, at, _ = url.partition("://")[2].rpartition("@")
    password = user.partition(":")[2]
    return (password, unquote(password)) if at and password else ()


_inherited: Settings | None = None


def inherit(settings: Settings) -> None:
    """Make these the default of this process, which is a worker's child."""
    global _inherited  # noqa: PLW0603 - a process has one
    _inherited = settings


def variables(field: str) -> tuple[str, ...]:
    """The environment variables that set `field`."""
    return _VARIABLES.get(field, (f"DTQ_{field.upper()}",))


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what holds secrets of ours, for processes that do not need them."""
    secret = {name for field in SECRET for name in variables(field)}
    return {name: value for name, value in environ.items() if name not in secret}


_TYPES: dict[str, Any] = {f.name: f.type for f in msgspec.structs.fields(Settings)}
_LISTS = frozenset({"allowed_hosts", "cors_origins"})


_SCHEMES = {
    "redis_url": ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"),
    "atlas_uri": ("mongodb", "mongodb+srv"),
}


def _parse(field: str, variable: str, text: str) -> Any:
    value: Any = text
    if field in _LISTS:
        value = [part.strip() for part in text.split(",") if part.strip()]
    return _check(field, variable, value)


def _check(field: str, name: str, value: Any) -> Any:
    shown = "***" if field in SECRET else repr(value)
    if field in SECRET and isinstance(value, str):
        value = value.strip()  # as a file with the line ends of Windows leaves it
        if wrong := next((char for char in value if ord(char) < 33 or ord(char) == 127), None):
            raise SettingsError(f"{name} has the character {wrong!r} in it, which is not allowed (it is not shown)")
    try:
        checked = msgspec.convert(value, _TYPES[field], strict=not isinstance(value, str))
    except msgspec.ValidationError as error:
        raise SettingsError(f"{name} is {shown}, which is not allowed: {error}") from None
    schemes = _SCHEMES.get(field)
    if schemes and str(checked).partition("://")[0] not in schemes:
        allowed = " or ".join(f"{scheme}://" for scheme in schemes)
        raise SettingsError(f"{name} must start with {allowed}; what was given does not (it is not shown)")
    return checked
