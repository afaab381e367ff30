"""Functions, versions, aliases, layers, permissions, and how an invocation finds its environment.

`Functions` is the service `lambda`; `ports` says what it needs from the other rooms. Nothing here knows
HTTP's protocols, sandboxes or how a file system is mounted.
"""

from lambay.functions.service import Functions

__all__ = ["Functions"]
