"""`lambay clock`: time passes in a moment, and a restart does not turn it back."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import time

import pytest

from tests.e2e.arrange import Deployer, Lambay


def now(server: Lambay) -> dt.datetime:
    return dt.datetime.fromisoformat(server.cli("clock").stdout.split()[0])


def test_a_month_passes_and_a_restart_does_not_turn_it_back(own_lambay: Lambay) -> None:
    logs = own_lambay.boto("logs")
    logs.create_log_group(logGroupName="old")
    logs.put_retention_policy(logGroupName="old", retentionInDays=7)
    logs.create_log_stream(logGroupName="old", logStreamName="s")
    logs.put_log_events(
        logGroupName="old",
        logStreamName="s",
        logEvents=[{"timestamp": int(time.time() * 1000), "message": "soon forgotten"}],
    )
    assert logs.filter_log_events(logGroupName="old")["events"]
    before = now(own_lambay)

    said = own_lambay.cli("clock", "advance", "30d").stdout

    assert "30 days" in said
    assert now(own_lambay) >= before + dt.timedelta(days=30)
    # Clients go on signing with the host's time.
    assert logs.filter_log_events(logGroupName="old")["events"] == []
    own_lambay.stop()
    own_lambay.start()
    assert now(own_lambay) >= before + dt.timedelta(days=30)


def test_functions_work_after_their_credentials_have_run_out(own_lambay: Lambay) -> None:
    deploy = Deployer(own_lambay)
    name = deploy.function(
        "import boto3\ndef handler(e, c): return boto3.client('sts').get_caller_identity()['Arn']"
    )
    first = deploy.invoke(name)

    own_lambay.cli("clock", "advance", "2d")

    assert deploy.invoke(name) == first


@pytest.mark.parametrize("span", ["soon", "-1d", "10"])
def test_a_span_that_is_none_is_refused(lambay: Lambay, span: str) -> None:
    done: subprocess.CompletedProcess[str] = lambay.cli("clock", "advance", "--", span, check=False)

    assert done.returncode == 1
    assert "SPAN" in done.stderr
    assert json.dumps(span).strip('"') in done.stderr
