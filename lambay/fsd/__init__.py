"""The file server's other end: starts the Rust process `fsd`, keeps it alive and speaks its control protocol.

What a file system or an access point means to AWS is not known here; what a request does is fsd's business.
"""

from lambay.fsd.connection import FsdError
from lambay.fsd.protocol import (
    Create,
    Hello,
    Identity,
    Ledger,
    Limits,
    Mount,
    Mounted,
    NfsAnswer,
    NfsExport,
    NfsPlace,
    NfsQuestion,
    NfsTls,
    NfsVisitEnded,
    Permissions,
    PosixIdentity,
    Report,
    Stats,
    Throughput,
    Turned,
    Usage,
)
from lambay.fsd.supervisor import Fsd

__all__ = [
    "Create",
    "Fsd",
    "FsdError",
    "Hello",
    "Identity",
    "Ledger",
    "Limits",
    "Mount",
    "Mounted",
    "NfsAnswer",
    "NfsExport",
    "NfsPlace",
    "NfsQuestion",
    "NfsTls",
    "NfsVisitEnded",
    "Permissions",
    "PosixIdentity",
    "Report",
    "Stats",
    "Throughput",
    "Turned",
    "Usage",
]
