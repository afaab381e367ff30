"""Every knob of Lambay: its name, its environment variable, its default."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[^\s:]+):\d{1,5}")
_URL = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")


# What everybody knows: good for a server that only its own machine reaches.
_DEFAULT_SECRET = "test"


def _setting(default: Any, env: str, doc: str) -> Any:
    return field(default=default, metadata={"env": env, "doc": doc})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The command line wins over the environment, which wins over the default."""

    host: str = _setting("127.0.0.1", "LAMBAY_HOST", "address the API listens on")
    port: int = _setting(4566, "LAMBAY_PORT", "port the API listens on; 0 takes a free one")
    data_dir: Path = _setting(Path("/var/lib/lambay"), "LAMBAY_DATA_DIR", "directory that holds all state")
    region: str = _setting("us-east-1", "LAMBAY_REGION", "Region of calls that name none")
    account: str = _setting("000000000000", "LAMBAY_ACCOUNT", "account of the root credentials, 12 digits")
    access_key: str = _setting("test", "LAMBAY_ACCESS_KEY_ID", "access key id of the root credentials")
    secret_key: str = _setting(
        _DEFAULT_SECRET, "LAMBAY_SECRET_ACCESS_KEY", "secret access key of the root credentials"
    )
    tls: str = _setting("off", "LAMBAY_TLS", "generated: HTTPS with a certificate made here; own: with yours")
    tls_cert: Path | None = _setting(None, "LAMBAY_TLS_CERT", "file of the certificate chain, PEM")
    tls_key: Path | None = _setting(None, "LAMBAY_TLS_KEY", "file of the certificate's private key, PEM")
    accounts: str = _setting(
        "none",
        "LAMBAY_ACCOUNTS",
        "root credentials of further accounts: ACCOUNT:KEY:SECRET, several with commas between",
    )
    iam: str = _setting(
        "enforce", "LAMBAY_IAM", "enforce: users and roles may do what their policies allow; off: everything"
    )
    allow_reset: bool = _setting(
        False, "LAMBAY_ALLOW_RESET", "serve POST /_lambay/reset, which empties everything"
    )
    log_level: str = _setting("info", "LAMBAY_LOG_LEVEL", "debug, info, warning or error")
    log_format: str = _setting(
        "text", "LAMBAY_LOG_FORMAT", "text or json, for the server's own log on stderr"
    )
    transport: str = _setting("auto", "LAMBAY_TRANSPORT", "FUSE transport: auto, io_uring or classic")
    quotas: bool = _setting(True, "LAMBAY_QUOTAS", "hold file systems to the rates of their throughput modes")
    passthrough: bool = _setting(
        True, "LAMBAY_PASSTHROUGH", "let the kernel read and write file data directly"
    )
    nfs_listen: str = _setting(
        "off", "LAMBAY_NFS_LISTEN", "ADDRESS:PORT where NFS clients of other machines mount; off: nowhere"
    )
    otlp_endpoint: str = _setting(
        "off",
        "LAMBAY_OTLP_ENDPOINT",
        "URL of an OpenTelemetry collector (OTLP over HTTP) that traces go to; off: nowhere",
    )
    idle_seconds: int = _setting(
        600, "LAMBAY_IDLE_SECONDS", "seconds after which an unused execution environment ends"
    )
    concurrency: int = _setting(
        1000, "LAMBAY_CONCURRENCY", "concurrent executions that an account has in a Region"
    )
    drain_seconds: int = _setting(
        10, "LAMBAY_DRAIN_SECONDS", "seconds that environments of replaced code keep their connections"
    )
    warm_slots: int = _setting(
        2, "LAMBAY_WARM_SLOTS", "pre-started sandboxes kept ready for each runtime in use"
    )
    open_endpoint: bool = _setting(
        True,
        "LAMBAY_OPEN_ENDPOINT",
        "functions in a VPC reach the AWS endpoint without a NAT gateway or VPC endpoint",
    )
    allow_lan: bool = _setting(
        False, "LAMBAY_ALLOW_LAN", "functions may reach private addresses and the host's own"
    )
    mount_seconds: int = _setting(
        5, "LAMBAY_MOUNT_SECONDS", "seconds without an answer from a mount target after which a mount fails"
    )
    stall_seconds: int = _setting(
        10, "LAMBAY_STALL_SECONDS", "seconds that I/O waits for a mount target that has become unreachable"
    )
    fork_server: bool = _setting(
        True, "LAMBAY_FORK_SERVER", "start sandboxes as copies of an interpreter that has its modules loaded"
    )

    @classmethod
    def load(cls, **given: Any) -> Settings:
        """The settings from the environment, overridden by every argument that is not None.

        Raises ValueError naming the setting whose text cannot be read.
        """
        values: dict[str, Any] = {}
        for knob in fields(cls):
            text = os.environ.get(knob.metadata["env"])
            value = given.get(knob.name)
            if value is None and text is not None:
                value = _parse(knob.metadata["env"], text, knob.default)
            if value is not None:
                values[knob.name] = value
        settings = cls(**values)
        settings._check()
        return settings

    def _check(self) -> None:
        if len(self.account) != 12 or not self.account.isdigit():
            raise ValueError(f"account (LAMBAY_ACCOUNT): {self.account!r} is not 12 digits")
        self._check_exposure()
        self.further_roots()
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port (LAMBAY_PORT): {self.port} is not within 0 and 65535")
        if self.transport not in ("auto", "io_uring", "classic"):
            raise ValueError(
                f"transport (LAMBAY_TRANSPORT): {self.transport!r} is not auto, io_uring or classic"
            )
        if self.iam not in ("enforce", "off"):
            raise ValueError(f"iam (LAMBAY_IAM): {self.iam!r} is not enforce or off")
        if self.log_format not in ("text", "json"):
            raise ValueError(f"log_format (LAMBAY_LOG_FORMAT): {self.log_format!r} is not text or json")
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise ValueError(
                f"log_level (LAMBAY_LOG_LEVEL): {self.log_level!r} is not debug, info, warning or error"
            )
        if self.nfs_listen != "off" and not _ADDRESS.fullmatch(self.nfs_listen):
            raise ValueError(
                f"nfs_listen (LAMBAY_NFS_LISTEN): {self.nfs_listen!r} is not ADDRESS:PORT, such as 0.0.0.0:2049, or off"
            )

        if self.otlp_endpoint != "off" and not _URL.fullmatch(self.otlp_endpoint):
            raise ValueError(
                f"otlp_endpoint (LAMBAY_OTLP_ENDPOINT): {self.otlp_endpoint!r} is not a URL, such as "
                "http://127.0.0.1:4318, or off"
            )

    def _check_exposure(self) -> None:
        if self.tls not in ("off", "generated", "own"):
            raise ValueError(f"tls (LAMBAY_TLS): {self.tls!r} is not off, generated or own")
        if (self.tls == "own") != (self.tls_cert is not None and self.tls_key is not None):
            raise ValueError(
                "tls_cert, tls_key (LAMBAY_TLS_CERT, LAMBAY_TLS_KEY): an own certificate needs both, and tls own"
            )
        if not self.on_loopback and self.secret_key in ("", _DEFAULT_SECRET):
            raise ValueError(
                f"host (LAMBAY_HOST): {self.host} can be reached from other machines, and the root's secret is "
                "the one that everybody knows: set secret_key (LAMBAY_SECRET_ACCESS_KEY)"
            )

    @property
    def on_loopback(self) -> bool:
        """Whether nobody but this machine can reach the API."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def url(self) -> str:
        """Where the API is, without a slash behind."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self.tls == 'off' else 'https'}://{host}:{self.port}"

    def further_roots(self) -> dict[str, tuple[str, str]]:
        """By access key id, the account and the secret. Raises ValueError naming what is no such triple."""
        roots: dict[str, tuple[str, str]] = {}
        for number, given in enumerate(self.accounts.split(",") if self.accounts != "none" else (), start=1):
            account, _, credentials = given.strip().partition(":")
            key, _, secret = credentials.partition(":")
            if len(account) != 12 or not account.isdigit() or not key or not secret:
                # Not the text itself: there is a secret in it.
                raise ValueError(f"accounts (LAMBAY_ACCOUNTS): entry {number} is not ACCOUNT:KEY:SECRET")
            if key == self.access_key or key in roots:
                raise ValueError(
                    f"accounts (LAMBAY_ACCOUNTS): the access key of entry {number} is given twice"
                )
            roots[key] = (account, secret)
        return roots

    @property
    def tag(self) -> str:
        """Twelve hex digits that name this data directory's kernel objects (cgroups, namespaces, mounts)."""
        return hashlib.sha256(os.path.realpath(self.data_dir).encode()).hexdigest()[:12]

    @property
    def run_dir(self) -> Path:
        """The volatile directory: sockets and mount points; short, because socket paths must be."""
        return Path("/run/lambay") / self.tag


# Files that there may be none of.
_PATHS = ("LAMBAY_TLS_CERT", "LAMBAY_TLS_KEY")


def _parse(env: str, text: str, default: object) -> Any:
    if isinstance(default, bool):
        if text.lower() in ("1", "true", "yes", "on"):
            return True
        if text.lower() in ("0", "false", "no", "off", ""):
            return False
        raise ValueError(f"{env}: {text!r} is not a yes or no")
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"{env}: {text!r} is not a whole number") from None
    return Path(text) if isinstance(default, Path) or env in _PATHS else text
