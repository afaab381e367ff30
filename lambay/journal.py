"""The server's own log on stderr: text for people, JSON lines for machines."""

from __future__ import annotations

import json
import logging
import sys
import time

from lambay.settings import Settings


def configure(settings: Settings) -> None:
    """Send every logger of the process to stderr in the chosen format, from the chosen level up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JSONLines() if settings.log_format == "json" else _Text())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("lambay").setLevel(settings.log_level.upper())


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s%(fields)s")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = getattr(record, "structured", {})
        record.fields = "".join(f" {name}={value}" for name, value in fields.items())
        return super().formatMessage(record)


class _JSONLines(logging.Formatter):
    """One object a line; what a caller passed as `extra={"structured": {...}}` becomes members of their own."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": round(record.created, 6),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "structured", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
