"""The README's tour, run as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def blocks(language: str) -> list[str]:
    """The fenced blocks of the README in `language`, in order."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )


def test_the_tour_works_as_written(own_lambay: Any, tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    (tmp_path / "README.md").write_text("a file to copy")
    runtime = f"python3.{sys.version_info.minor}"
    shell = "set -eu\n" + "\n".join(blocks("sh")).replace("python3.11", runtime)
    script = shell + "\npython <<'END'\n" + "\n".join(blocks("python")) + "\nEND\n"

    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"AWS_ENDPOINT_URL": own_lambay.endpoint, "AWS_PAGER": ""},
    )

    assert done.returncode == 0, done.stderr
    # Invoked by aws, by lambay, and by boto3 in the second function.
    assert (tmp_path / "answer.json").read_text() == "1"
    assert done.stdout.rstrip().endswith("b'3'")
    assert "REPORT RequestId:" in done.stderr
