"""Principals, credentials and STS: who signed a request, and what a role's session is.

`Identity` authenticates and issues sessions; `SecurityTokens` is the service `sts`. No resource of any other
service is known here.
"""

from lambay.identity.authentication import Identity
from lambay.identity.keys import EnvironmentKeys, Keys
from lambay.identity.mounts import MountPermit, MountPermits, MountRequest
from lambay.identity.principals import AccessKey, Attachments, IamRecords, Role
from lambay.identity.remembered import RememberedRecords
from lambay.identity.resource_policies import PoliciesByService
from lambay.identity.service_access import ServiceAccess
from lambay.identity.sessions import Credentials
from lambay.identity.sts import SecurityTokens

__all__ = [
    "AccessKey",
    "Attachments",
    "Credentials",
    "EnvironmentKeys",
    "IamRecords",
    "Identity",
    "Keys",
    "MountPermit",
    "MountPermits",
    "MountRequest",
    "PoliciesByService",
    "RememberedRecords",
    "Role",
    "SecurityTokens",
    "ServiceAccess",
]
