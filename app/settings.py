"""The only reader of the environment: every variable, its meaning and its default.

| variable | meaning | default |
|---|---|---|
| MILLRACE_HOME | folder that holds all embedded stores | ./.millrace |
| MILLRACE_STATE_URL | SQLAlchemy URL of the control state (SQLite: ?timeout=30, seconds to wait) | SQLite in the home |
| MILLRACE_CATALOG_URL | SQLAlchemy URL of the Iceberg SQL catalog | SQLite in the home |
| MILLRACE_WAREHOUSE | folder or object-store URL of Iceberg files (`foundation/lake/warehouse.py`) | <home>/warehouse |
| MILLRACE_ONLINE_URL | online feature store, sqlite:///… or redis://… | SQLite in the home |
| MILLRACE_ONLINE_CACHE_S | seconds for which an entity's features may be answered from a replica's memory | 0: never |
| MILLRACE_ONLINE_CACHE_ENTRIES | entities × views kept in that memory | 100000 |
| MILLRACE_MLFLOW_URL | MLflow tracking URI | SQLite in the home |
| MILLRACE_HTTP_PORT | port of the Serve application | 8000 |
| MILLRACE_HTTP_HOST | address that local clients use to reach it | 127.0.0.1 |
| MILLRACE_ALLOW_DIRTY | 1: models may be trained from uncommitted code, whose difference is then recorded | 0 |
| MILLRACE_OPEN_ACCESS | 1: HTTP asks nobody for a token; for a demonstration on one's own machine | 0 |
| MILLRACE_TRACES | where spans go, http://…/v1/traces (OTLP) or file:///… | none: no spans |
| MILLRACE_PRINCIPAL | who asks, for access policies and the audit trail | the operating system's user |
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.errors import SettingsError


@dataclass(frozen=True)
class Settings:
    """Where everything lives. Derived from the environment once, then passed along (picklable)."""

    home: Path
    state_url: str
    catalog_url: str
    warehouse: str
    online_url: str
    mlflow_url: str
    http_host: str
    http_port: int
    principal: str
    online_cache_s: float = 0.0
    online_cache_entries: int = 100_000
    allow_dirty: bool = False
    open_access: bool = False
    traces: str = ""

    @property
    def http_url(self) -> str:
        return f"http://{self.http_host}:{self.http_port}"

    @property
    def artefacts(self) -> Path:
        """Model folders, one per version, on the file system of this host."""
        return self.home / "artefacts"

    @property
    def segments(self) -> Path:
        """Prediction-log segment files of the replicas of this host."""
        return self.home / "segments"

    @property
    def runs(self) -> Path:
        """Scratch of training runs: checkpoints and trainer state."""
        return self.home / "runs"

    @property
    def reports(self) -> Path:
        return self.home / "reports"


def load_settings(environment: Mapping[str, str] | None = None, *, in_job: bool | None = None) -> Settings:
    """Reads the settings from `environment` (default: the process's).

    Under `ray job submit` the working directory is a copy that vanishes, so a
    relative home is refused there (`in_job`, default: whether Ray says this is a job).

    Raises:
        SettingsError: relative home inside a job, or a port that is not a number.
    """
    env = os.environ if environment is None else environment
    raw_home = env.get("MILLRACE_HOME", ".millrace")
    job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in env if in_job is None else in_job
    if job and not Path(raw_home).is_absolute():
        raise SettingsError(
            f"MILLRACE_HOME is {raw_home!r}, a relative path, but this is a Ray job whose "
            "working directory is a temporary copy. Set MILLRACE_HOME to an absolute path, e.g. "
            'ray job submit --runtime-env-json \'{"env_vars": {"MILLRACE_HOME": "/data/millrace"}}\'.',
            variable="MILLRACE_HOME",
        )
    home = Path(raw_home).expanduser().resolve()
    port = env.get("MILLRACE_HTTP_PORT", "8000")
    if not port.isdigit():
        raise SettingsError(
            f"MILLRACE_HTTP_PORT is {port!r}; expected a port number such as 8000.",
            variable="MILLRACE_HTTP_PORT",
        )
    return Settings(
        home=home,
        state_url=env.get("MILLRACE_STATE_URL", f"sqlite:///{home}/state.db"),
        catalog_url=env.get("MILLRACE_CATALOG_URL", f"sqlite:///{home}/catalog.db"),
        warehouse=env.get("MILLRACE_WAREHOUSE", str(home / "warehouse")),
        online_url=env.get("MILLRACE_ONLINE_URL", f"sqlite:///{home}/online.db"),
        mlflow_url=env.get("MILLRACE_MLFLOW_URL", f"sqlite:///{home}/mlflow.db"),
        http_host=env.get("MILLRACE_HTTP_HOST", "127.0.0.1"),
        http_port=int(port),
        principal=env.get("MILLRACE_PRINCIPAL") or _os_user(),
        online_cache_s=_number(env, "MILLRACE_ONLINE_CACHE_S", 0.0),
        online_cache_entries=int(_number(env, "MILLRACE_ONLINE_CACHE_ENTRIES", 100_000)),
        allow_dirty=_yes(env, "MILLRACE_ALLOW_DIRTY"),
        open_access=_yes(env, "MILLRACE_OPEN_ACCESS"),
        traces=env.get("MILLRACE_TRACES", ""),
    )


def _number(env: Mapping[str, str], variable: str, default: float) -> float:
    """Raises: SettingsError: not a number from 0 on."""
    text = env.get(variable)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise SettingsError(f"{variable} is {text!r}; expected a number from 0 on.", variable=variable)
    return value


def _yes(env: Mapping[str, str], variable: str) -> bool:
    """Raises: SettingsError: neither 0 nor 1."""
    text = env.get(variable, "0")
    if text not in ("0", "1"):
        raise SettingsError(f"{variable} is {text!r}; expected 0 or 1.", variable=variable)
    return text == "1"


def _os_user() -> str:
    """The user the process runs as, by the system's own list: not by `USER`, which anybody can set."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a number that has no name
        return f"uid-{os.getuid()}"
