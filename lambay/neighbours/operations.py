"""Which operations leave no trace, and so need no place in the journal.

When in doubt an operation counts as a change: an entry too many costs a little room, one too few costs state.
"""

from __future__ import annotations

import re

_READS = (
    "BatchDescribe",
    "BatchGet",
    "Check",
    "Describe",
    "Discover",
    "Estimate",
    "Filter",
    "Get",
    "Head",
    "List",
    "Lookup",
    "Preview",
    "Query",
    "Scan",
    "Search",
    "Select",
    "Simulate",
    "TransactGet",
    "Validate",
)

# The verb and then a noun, so that `CheckoutLicense` is no check.
_READ = re.compile(rf"({'|'.join(_READS)})(?![a-z])")

_READS_OF = {
    "kms": {
        "Decrypt",
        "DeriveSharedSecret",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
        "GenerateDataKeyWithoutPlaintext",
        "GenerateMac",
        "GenerateRandom",
        "ReEncrypt",
        "Sign",
        "Verify",
        "VerifyMac",
    },
    "events": {"TestEventPattern"},
    "secretsmanager": {"GetRandomPassword"},
}

# Named like reads, and yet they make something that later calls refer to.
_CHANGES_OF = {
    "athena": {"GetQueryResults"},
    "cognito-identity": {"GetId", "GetOpenIdTokenForDeveloperIdentity"},
    "cognito-idp": {"GetUserAttributeVerificationCode"},
    "kms": {"GetParametersForImport"},
}


def changes(service: str, operation: str, method: str) -> bool:
    """Whether `operation` of botocore's `service` may change state.

    Where the operation is not known, the HTTP `method` decides.
    """
    if not operation:
        return method not in ("GET", "HEAD", "OPTIONS")
    if operation in _CHANGES_OF.get(service, ()):
        return True
    return not (_READ.match(operation) or operation in _READS_OF.get(service, ()))
