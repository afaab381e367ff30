"""Where actions go, as constructor arguments."""

from __future__ import annotations
