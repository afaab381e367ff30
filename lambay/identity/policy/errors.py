"""What can be wrong with a policy."""

from __future__ import annotations


class MalformedPolicy(ValueError):
    """The document is no policy; the message names the element and what it must be."""
