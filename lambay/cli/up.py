"""`lambay up`: run the server in the foreground."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lambay.cli.endpoint import CommandError


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("up", help="run the server in the foreground")
    parser.add_argument("--host", help="address to listen on (LAMBAY_HOST; 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on, 0 for a free one (LAMBAY_PORT; 4566)")
    parser.add_argument(
        "--data-dir", type=Path, help="directory of all state (LAMBAY_DATA_DIR; /var/lib/lambay)"
    )
    parser.add_argument("--region", help="Region of calls that name none (LAMBAY_REGION; us-east-1)")
    parser.add_argument("--account", help="account of the root credentials (LAMBAY_ACCOUNT; 000000000000)")
    parser.add_argument(
        "--tls",
        choices=("off", "generated", "own"),
        help="speak HTTPS, with a certificate made here or with --tls-cert and --tls-key (LAMBAY_TLS; off)",
    )
    parser.add_argument("--tls-cert", type=Path, help="file of the certificate chain, PEM (LAMBAY_TLS_CERT)")
    parser.add_argument("--tls-key", type=Path, help="file of its private key, PEM (LAMBAY_TLS_KEY)")
    parser.add_argument(
        "--accounts", help="root credentials of further accounts, ACCOUNT:KEY:SECRET,… (LAMBAY_ACCOUNTS)"
    )
    parser.add_argument(
        "--allow-reset",
        action="store_true",
        default=None,
        help="serve POST /_lambay/reset (LAMBAY_ALLOW_RESET)",
    )
    parser.add_argument(
        "--quotas",
        choices=("on", "off"),
        help="hold file systems to the rates of their throughput modes (LAMBAY_QUOTAS; on)",
    )
    parser.add_argument(
        "--iam",
        choices=("enforce", "off"),
        help="whether users and roles may do only what their policies allow (LAMBAY_IAM; enforce)",
    )
    parser.add_argument(
        "--nfs-listen", metavar="ADDRESS:PORT", help="where NFS clients mount (LAMBAY_NFS_LISTEN; off)"
    )
    parser.add_argument(
        "--otlp-endpoint",
        metavar="URL",
        help="OpenTelemetry collector that traces go to (LAMBAY_OTLP_ENDPOINT; off)",
    )
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), help="LAMBAY_LOG_LEVEL; info"
    )
    parser.add_argument("--log-format", choices=("text", "json"), help="LAMBAY_LOG_FORMAT; text")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from lambay import host
    from lambay.settings import Settings

    try:
        given = {name: value for name, value in vars(options).items() if name != "run" and value is not None}
        if "quotas" in given:
            given["quotas"] = given["quotas"] == "on"
        if "tls_cert" in given and "tls_key" in given:
            given.setdefault("tls", "own")
        settings = Settings.load(**given)
    except ValueError as error:
        raise CommandError(str(error)) from None
    unmet = host.unmet_needs()
    if unmet:
        print("lambay: this host does not give Lambay what it needs:", file=sys.stderr)
        for need in unmet:
            print(f"  - {need}", file=sys.stderr)
        return 1
    from lambay import server

    return server.run(settings)
