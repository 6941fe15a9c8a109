"""Settings, each declared once: its environment variable, default, unit and meaning.

Read once at start (:func:`load`), frozen, passed down. ``keck config`` prints them and
``docs/configuration.md`` is generated from them. The variables of the original service keep their names;
everything else is ``KECK_*``.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from keck.errors import SettingError

__all__ = ["Setting", "Settings", "declared", "load", "unknown_variables"]


def _setting(default: Any, *, env: str, help: str, unit: str = "", secret: bool = False) -> Any:
    return dataclasses.field(
        default=default, metadata={"env": env, "help": help, "unit": unit, "secret": secret}
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The effective settings of one process."""

    # --- where things are
    nats_url: str = _setting("", env="KECK_NATS_URL", help="The NATS server; empty: nats://127.0.0.1:4222.")
    nats_user: str = _setting("", env="KECK_NATS_USER", help="User name on the NATS server.")
    nats_password: str = _setting("", env="KECK_NATS_PASSWORD", secret=True, help="Its password.")
    nats_tls_ca: str = _setting(
        "",
        env="KECK_NATS_TLS_CA",
        help="File of the certificate authority that the NATS server is checked against, instead of the system's; "
        "set, a server without TLS is refused.",
    )
    nats_tls_cert: str = _setting(
        "", env="KECK_NATS_TLS_CERT", help="File of the certificate shown to a NATS server that asks for one."
    )
    nats_tls_key: str = _setting("", env="KECK_NATS_TLS_KEY", help="File of its private key.")
    url: str = _setting(
        "",
        env="KECK_URL",
        help="A gateway for the CLI and the client, http://host:port or https://host:port.",
    )
    token: str = _setting(
        "",
        env="KECK_TOKEN",
        secret=True,
        help="Bearer token the gateway asks for, with all rights, and the client sends.",
    )
    tls_ca: str = _setting(
        "",
        env="KECK_TLS_CA",
        help="File of the certificate authority that an https gateway is checked against, instead of the system's.",
    )
    state_dir: Path = _setting(
        Path("~/.local/state/keck"),
        env="KECK_STATE_DIR",
        help="Where `keck up` keeps the server's streams and logs, and services their caches.",
    )

    # --- the gateway
    http_host: str = _setting("127.0.0.1", env="KECK_HTTP_HOST", help="Address the gateway listens on.")
    http_port: int = _setting(
        8000, env="KECK_HTTP_PORT", help="Port the gateway listens on; 0: any free one."
    )
    insecure: bool = _setting(
        False, env="KECK_INSECURE", help="Allow listening beyond loopback without a token."
    )
    allowed_hosts: str = _setting(
        "", env="KECK_ALLOWED_HOSTS", help="Host headers accepted besides loopback names, comma separated."
    )
    allowed_origins: str = _setting(
        "",
        env="KECK_ALLOWED_ORIGINS",
        help="Origin headers accepted besides the gateway's own, comma separated.",
    )
    http_tls_cert: str = _setting(
        "",
        env="KECK_HTTP_TLS_CERT",
        help="File of the gateway's certificate: it speaks HTTPS and nothing else.",
    )
    http_tls_key: str = _setting("", env="KECK_HTTP_TLS_KEY", help="File of its private key.")
    tokens_file: str = _setting(
        "",
        env="KECK_TOKENS_FILE",
        help="File of bearer tokens the gateway takes beside KECK_TOKEN, a line each: a role (observe, submit, "
        "admin) and the token, or sha256: and its digest.",
    )
    max_waiting: int = _setting(
        4096, env="KECK_MAX_WAITING", help="Callers that may wait on one gateway at once; more get 429."
    )
    deadline_s: float = _setting(
        3600.0, env="KECK_DEADLINE", unit="s", help="Deadline of a check that names none."
    )

    # --- the bus
    storage: Literal["embedded", "production"] = _setting(
        "embedded", env="KECK_STORAGE", help="Sizes of the streams: 2 GiB in all, or for a fleet."
    )

    # --- compilers (the first four names are the original's)
    compiler_cpus: int = _setting(
        4, env="COMPILER_CPUS", help="CPU cores of one build; cores // this = builds at once."
    )
    compile_timeout_s: float = _setting(
        180.0, env="COMPILE_TIMEOUT", unit="s", help="Wall time of one build."
    )
    cuda_arch_list: str = _setting(
        "", env="TORCH_CUDA_ARCH_LIST", help="Architectures to build for; empty: the least loaded executor's."
    )
    max_jobs: int = _setting(1, env="MAX_JOBS", help="Parallel compiler processes within one build.")
    build_memory_bytes: int = _setting(
        8 << 30, env="KECK_BUILD_MEMORY", unit="bytes", help="Address space of one process of a build."
    )
    recipe: Literal["auto", "stock"] = _setting(
        "auto",
        env="KECK_RECIPE",
        help="How extensions are built: auto: fast where that gives what torch's own builder gives; stock: as torch does.",
    )
    audit_share: float = _setting(
        0.01,
        env="KECK_AUDIT_SHARE",
        help="Share of fast builds, 0 to 1, that are built by the stock recipe as well and compared.",
    )
    record_timeout_s: float = _setting(
        60.0, env="KECK_RECORD_TIMEOUT", unit="s", help="Time for a candidate's module to say what it builds."
    )

    # --- executors
    exec_timeout_s: float = _setting(
        60.0,
        env="EXEC_TIMEOUT",
        unit="s",
        help="The candidate's own time in one check, queueing not counted.",
    )
    device: str = _setting(
        "auto", env="KECK_DEVICE", help="What an executor serves: auto, cpu, cuda or cuda:N."
    )
    runner_memory_bytes: int = _setting(
        16 << 30, env="KECK_RUNNER_MEMORY", unit="bytes", help="Private memory of one runner process."
    )
    spares: int = _setting(2, env="KECK_SPARES", help="Runner processes kept ready with torch imported.")

    # --- containment, of compilers and executors
    sandbox_min: Literal["A", "A-", "B", "C", "X"] = _setting(
        "C", env="KECK_SANDBOX_MIN", help="Weakest isolation to start with; X: none, at your own risk."
    )
    sandbox: Literal["auto", "A", "A-", "B", "C", "X"] = _setting(
        "auto", env="KECK_SANDBOX", help="Isolation of builds and runs; auto: the strongest that works here."
    )

    # --- all services
    worker: str = _setting(
        "", env="KECK_WORKER", help="Name of this process on the bus; empty: host and pid."
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", env="KECK_LOG_LEVEL", help="Least severe log line written."
    )
    log_format: Literal["auto", "json", "console"] = _setting(
        "auto", env="KECK_LOG_FORMAT", help="auto: console on a terminal, else JSON."
    )


@dataclass(frozen=True, slots=True)
class Setting:
    """One declared setting with its effective value."""

    field: str
    env: str
    default: Any
    value: Any
    unit: str
    help: str
    secret: bool
    source: Literal["default", "environment"]

    @property
    def shown(self) -> str:
        """The value for people: secrets masked."""
        if self.secret and self.value:
            return "********"
        return str(self.value)


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment.

    Raises:
        SettingError: a variable's value does not fit; the message names the variable and what it takes.
    """
    env = os.environ if environ is None else environ
    hints = get_type_hints(Settings)
    values = {
        field.name: _parse(env[name], hints[field.name], name)
        for field in dataclasses.fields(Settings)
        if (name := field.metadata["env"]) in env and env[name] != ""
    }
    settings = Settings(**values)
    _check(settings)
    return settings


def declared(settings: Settings, environ: Mapping[str, str] | None = None) -> list[Setting]:
    """Every setting with its effective value, in the order of declaration."""
    env = os.environ if environ is None else environ
    return [
        Setting(
            field=field.name,
            env=field.metadata["env"],
            default=field.default,
            value=getattr(settings, field.name),
            unit=field.metadata["unit"],
            help=field.metadata["help"],
            secret=field.metadata["secret"],
            source="environment" if env.get(field.metadata["env"]) else "default",
        )
        for field in dataclasses.fields(Settings)
    ]


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[tuple[str, str | None]]:
    """``KECK_*`` variables that no code reads, each with the nearest name that exists.

    Kubernetes injects such names for a service called ``keck``, so they warn and do not fail.
    """
    env = os.environ if environ is None else environ
    known = [field.metadata["env"] for field in dataclasses.fields(Settings)]
    return [
        (name, _nearest(name, known))
        for name in sorted(env)
        if name.startswith("KECK_") and name not in known
    ]


def _nearest(name: str, known: Iterable[str]) -> str | None:
    found = difflib.get_close_matches(name, list(known), n=1)
    return found[0] if found else None


def _parse(text: str, hint: Any, name: str) -> Any:
    if get_origin(hint) is Literal:
        if text not in get_args(hint):
            raise SettingError(f"{name}={text!r}: must be one of {', '.join(get_args(hint))}")
        return text
    if hint is bool:
        lowered = text.strip().lower()
        if lowered in {"1", "true", "yes", "on"}:
            return True
        if lowered in {"0", "false", "no", "off"}:
            return False
        raise SettingError(f"{name}={text!r}: must be true or false")
    if hint is Path:
        return Path(text)
    try:
        return hint(text)
    except ValueError:
        kind = "a whole number" if hint is int else "a number"
        raise SettingError(f"{name}={text!r}: must be {kind}") from None


def _check(settings: Settings) -> None:
    positive = (
        "compiler_cpus", "max_jobs", "compile_timeout_s", "exec_timeout_s", "record_timeout_s",
        "build_memory_bytes", "runner_memory_bytes", "max_waiting", "deadline_s",
    )  # fmt: skip
    names = {field.name: field.metadata["env"] for field in dataclasses.fields(Settings)}
    for field in positive:
        if not getattr(settings, field) > 0:
            raise SettingError(f"{names[field]}={getattr(settings, field)}: must be above 0")
    if not 0 <= settings.audit_share <= 1:
        raise SettingError(f"{names['audit_share']}={settings.audit_share}: must be between 0 and 1")
    if not 0 <= settings.http_port <= 65_535:
        raise SettingError(f"KECK_HTTP_PORT={settings.http_port}: must be a port number")
