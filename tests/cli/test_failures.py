"""What goes wrong is one line on stderr, never a traceback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from lambay import cli

VERBS = [
    ["status"],
    ["top", "--once"],
    ["costs"],
    ["clock"],
    ["invoke", "function"],
    ["invoke", "stack/function"],
    ["logs", "function"],
    ["logs", "--follow", "function"],
    ["explain", "function"],
    ["fs", "ls"],
    ["fs", "cat", "fs-0123456789abcdef0:/file"],
    ["zone", "down", "us-east-1a"],
    ["destroy", "stack"],
    ["deploy", "TEMPLATE"],
]


class Stranger(BaseHTTPRequestHandler):
    """Some other server of pages."""

    def _answer(self) -> None:
        text = b"<html>here is<br>no Lambay</html>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = _answer

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Stranger)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture
def nobody() -> Iterator[str]:
    """A port that is taken and that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def run(verb: list[str], endpoint: str, directory: Path) -> int:
    template = directory / "template.yaml"
    template.write_text("Resources: {Queue: {Type: 'AWS::SQS::Queue'}}")
    arguments = [str(template) if each == "TEMPLATE" else each for each in verb]
    return cli.main([*arguments, "--endpoint", endpoint])


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_a_server_that_is_not_there_is_told_in_one_line(
    verb: list[str], nobody: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(verb, nobody, tmp_path) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"lambay: no Lambay answers at {nobody}")
    assert said.endswith("start one with `lambay up`\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "verb", [verb for verb in VERBS if verb[0] in ("status", "destroy", "deploy", "costs")]
)
def test_somebody_else_s_server_is_told_apart(
    verb: list[str], stranger: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(verb, stranger, tmp_path) == 1
    assert capsys.readouterr().err == f"lambay: what answers at {stranger} is not Lambay\n"


@pytest.mark.parametrize("verb", [["status"], ["logs", "function"]], ids=" ".join)
def test_https_is_not_spoken_by_everybody(
    verb: list[str], stranger: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = stranger.replace("http", "https")
    assert run(verb, endpoint, tmp_path) == 1
    assert capsys.readouterr().err.startswith(f"lambay: no Lambay answers at {endpoint} (")


def test_an_endpoint_that_is_no_url_is_an_unusable_argument(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["status", "--endpoint", "localhost:4566"])
    assert ended.value.code == 2
    assert "'localhost:4566' is not a URL such as http://127.0.0.1:4566" in capsys.readouterr().err
