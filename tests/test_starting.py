"""`lambay up` that cannot start says why, in one line, and leaves nothing behind."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

LAMBAY = Path(sys.executable).with_name("lambay")


def start(data_dir: Path, *options: str) -> tuple[int, list[str]]:
    """Its exit status and the errors in its log."""
    done = subprocess.run(
        [str(LAMBAY), "up", "--data-dir", str(data_dir), "--log-level", "error", *options],
        check=False,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr.splitlines()


def test_a_data_directory_that_is_a_file(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.touch()
    status, said = start(taken, "--port", "0")
    assert (status, len(said)) == (1, 1)
    assert said[0].endswith(f"--data-dir {taken} cannot be used: File exists")


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, said = start(tmp_path / "data", "--port", str(port))
    assert (status, len(said)) == (1, 1)
    assert said[0].endswith(f"could not start: cannot listen on 127.0.0.1:{port}: Address already in use")


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "certificate.pem"
    file.write_text("no certificate")
    status, said = start(tmp_path / "data", "--port", "0", "--tls-cert", str(file), "--tls-key", str(file))
    assert (status, len(said)) == (1, 1)
    assert f"could not start: tls: {file} with key {file} cannot be used" in said[0]
