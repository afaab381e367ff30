"""Nothing is skipped unnoticed: where continuous integration runs, a skipped test fails the run."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes tells how busy the machine is, nothing about what is tested.
settings.register_profile(
    "lambay", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("lambay")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("CI"):
        return
    skipped = reporter.stats.get("skipped", [])
    if skipped and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        names = "\n".join(f"  {report.nodeid}" for report in skipped)
        reporter.write_line(f"\nskipped, which fails the run where CI is set:\n{names}", red=True)
