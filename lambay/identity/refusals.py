"""Why a request is refused before any service sees it, in the words of the service that it asked.

AWS answers the same fault differently by protocol: query services say `InvalidClientTokenId`, JSON services
`UnrecognizedClientException`, S3 `InvalidAccessKeyId`, EC2 `AuthFailure`. See each API reference's "Common
Errors" and S3's "Error responses".
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from lambay.aws import AWSError, Call
from lambay.http import Request
from lambay.identity import sigv2, sigv4

Dialect = Literal["s3", "ec2", "query", "json", "rest-json"]

S3_DIALECT = sigv4.S3_SERVICES | {"s3control"}
_XML_SERVICES = frozenset({"cloudfront", "importexport", "iam", "route53", "sns", "sts"})

_INVALID_TOKEN = "The security token included in the request is invalid."
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
    "Access Key and signing method. Consult the service documentation for details."
)


def dialect(request: Request, service: str) -> Dialect:
    """How `service` (botocore's name) words its refusals to this request's protocol."""
    if service in S3_DIALECT:
        return "s3"
    if service == "ec2":
        return "ec2"
    if "x-amz-target" in request.headers:
        return "json"
    form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    if form or "Action=" in request.query or service in _XML_SERVICES:
        return "query"
    return "rest-json"


def missing_token(kind: Dialect) -> AWSError:
    """There is no signature and the operation wants one."""
    match kind:
        case "s3":
            return AWSError("AccessDenied", "Access Denied", status=403)
        case "ec2":
            return AWSError(
                "MissingParameter", "The request must contain the parameter AWSAccessKeyId", status=400
            )
        case "query":
            return AWSError(
                "MissingAuthenticationToken", "Request is missing Authentication Token", status=403
            )
        case other:
            status = 400 if other == "json" else 403
            return AWSError(
                "MissingAuthenticationTokenException", "Missing Authentication Token", status=status
            )


def unsupported_scheme() -> AWSError:
    """S3 got an Authorization header of a scheme that is not its own."""
    return AWSError(
        "InvalidRequest",
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
        status=400,
    )


def malformed(kind: Dialect, fault: sigv4.Malformed, *, presigned: bool) -> AWSError:
    """The signature's fields are missing or unreadable, or its scope contradicts itself."""
    if kind == "s3":
        if presigned:
            return AWSError("AuthorizationQueryParametersError", fault.message, status=400)
        return AWSError(
            "AuthorizationHeaderMalformed",
            f"The authorization header is malformed; {fault.message}",
            status=400,
        )
    if not fault.missing:
        return _bad_signature(kind, fault.message)
    if kind in ("ec2", "query"):
        return AWSError("IncompleteSignature", fault.message, status=400)
    return AWSError("IncompleteSignatureException", fault.message, status=400 if kind == "json" else 403)


def wrong_scope(kind: Dialect, service: str) -> AWSError:
    """The credential scope names another service than the one that was asked."""
    return _bad_signature(kind, f"Credential should be scoped to correct service: '{service}'.")


def unknown_key(kind: Dialect, access_key_id: str) -> AWSError:
    """No such access key, or it is inactive."""
    match kind:
        case "s3":
            return AWSError(
                "InvalidAccessKeyId",
                "The AWS Access Key Id you provided does not exist in our records.",
                status=403,
                AWSAccessKeyId=access_key_id,
            )
        case "ec2":
            return AWSError(
                "AuthFailure", "AWS was not able to validate the provided access credentials", status=401
            )
        case "query":
            return AWSError("InvalidClientTokenId", _INVALID_TOKEN, status=403)
        case other:
            return AWSError(
                "UnrecognizedClientException", _INVALID_TOKEN, status=400 if other == "json" else 403
            )


def invalid_token(kind: Dialect, access_key_id: str) -> AWSError:
    """The session token was not issued here, or not with this access key."""
    if kind == "s3":
        return AWSError("InvalidToken", "The provided token is malformed or otherwise invalid.", status=400)
    return unknown_key(kind, access_key_id)


def expired_token(kind: Dialect) -> AWSError:
    """The session has ended."""
    message = "The security token included in the request is expired"
    match kind:
        case "s3":
            return AWSError("ExpiredToken", "The provided token has expired.", status=400)
        case "ec2":
            return AWSError("RequestExpired", "Request has expired.", status=400)
        case "query":
            return AWSError("ExpiredToken", message, status=403)
        case other:
            return AWSError("ExpiredTokenException", message, status=400 if other == "json" else 403)


def mismatch(kind: Dialect, fault: sigv4.Mismatch) -> AWSError:
    """The signature is not what the secret access key gives for this request."""
    if kind != "s3":
        return _bad_signature(kind, _MISMATCH)
    canonical = fault.canonical_request
    return _s3_mismatch(
        fault.signature.access_key_id,
        fault.signature.signature,
        fault.string_to_sign,
        CanonicalRequest=canonical,
        CanonicalRequestBytes=_hex(canonical),
    )


def connection_mismatch() -> AWSError:
    """`mismatch` for the signature in a client's certificate."""
    return _bad_signature("rest-json", _MISMATCH)


def legacy_mismatch(signature: sigv2.LegacySignature, to_sign: str) -> AWSError:
    """`mismatch` for Signature Version 2."""
    return _s3_mismatch(signature.access_key_id, signature.signature, to_sign)


def _s3_mismatch(access_key_id: str, signature: str, to_sign: str, **members: str) -> AWSError:
    return AWSError(
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your key and "
        "signing method.",
        status=403,
        AWSAccessKeyId=access_key_id,
        StringToSign=to_sign,
        SignatureProvided=signature,
        StringToSignBytes=_hex(to_sign),
        **members,
    )


def unsigned_headers(kind: Dialect, names: list[str]) -> AWSError:
    """`names` had to be among the signed headers."""
    if kind == "s3":
        return AWSError(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            status=403,
            HeadersNotSigned=", ".join(names),
        )
    listed = ", ".join(f"'{name}'" for name in names)
    return _bad_signature(kind, f"{listed} must be a 'SignedHeader' in the AWS Authorization.")


def altered_body(declared: str, computed: str) -> AWSError:
    """S3's caller promised another SHA-256 than the body has."""
    return AWSError(
        "XAmzContentSHA256Mismatch",
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
        status=400,
        ClientComputedContentSHA256=declared,
        S3ComputedContentSHA256=computed,
    )


def altered_chunk(signature: sigv4.Signature) -> AWSError:
    """A chunk of an aws-chunked body is not what was signed."""
    return AWSError(
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your key and "
        "signing method.",
        status=403,
        AWSAccessKeyId=signature.access_key_id,
    )


def skewed(kind: Dialect, signature: sigv4.Signature, now: float, allowed: float) -> AWSError:
    """A signature that is more than `allowed` seconds old, or that much ahead."""
    if kind == "s3":
        return skewed_header(signature.timestamp, now, allowed)
    if kind == "ec2":
        return AWSError("RequestExpired", "Request has expired.", status=400)
    minutes = f"{allowed / 60:g} min."
    if signature.signed_at > now:
        return _bad_signature(
            kind,
            f"Signature not yet current: {signature.timestamp} is still later than {_basic(now + allowed)} "
            f"({_basic(now)} + {minutes})",
        )
    return _bad_signature(
        kind,
        f"Signature expired: {signature.timestamp} is now earlier than {_basic(now - allowed)} "
        f"({_basic(now)} - {minutes})",
    )


def skewed_header(date: str, now: float, allowed: float) -> AWSError:
    """S3's request was dated `date` and that is more than `allowed` seconds off."""
    return AWSError(
        "RequestTimeTooSkewed",
        "The difference between the request time and the current time is too large.",
        status=403,
        RequestTime=date,
        ServerTime=_extended(now),
        MaxAllowedSkewMilliseconds=int(allowed * 1000),
    )


def presigned_expired(kind: Dialect, signature: sigv4.Signature, now: float) -> AWSError:
    """A presigned request after its lifetime."""
    ended = signature.signed_at + (signature.expires or 0)
    if kind == "s3":
        members = {
            "X-Amz-Expires": signature.expires,
            "Expires": _extended(ended),
            "ServerTime": _extended(now),
        }
        return AWSError("AccessDenied", "Request has expired", status=403, **members)
    if kind == "ec2":
        return AWSError("RequestExpired", "Request has expired.", status=400)
    return _bad_signature(
        kind, f"Signature expired: {_basic(ended)} is now earlier than {_basic(now)} ({_basic(now)} - 0 min.)"
    )


def _bad_signature(kind: Dialect, message: str) -> AWSError:
    match kind:
        case "ec2":
            return AWSError(
                "AuthFailure", "AWS was not able to validate the provided access credentials", status=401
            )
        case "query" | "s3":
            return AWSError("SignatureDoesNotMatch", message, status=403)
        case other:
            return AWSError("InvalidSignatureException", message, status=400 if other == "json" else 403)


def _hex(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").hex(" ")


def _basic(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


def _extended(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def not_authorized(call: Call, sentence: str, encoded: str) -> AWSError:
    """The principal's policies do not allow the call; `encoded` is EC2's message for its administrators."""
    service = call.service
    if service in S3_DIALECT:
        return AWSError("AccessDenied", sentence, status=403)
    if service == "ec2":
        return AWSError(
            "UnauthorizedOperation",
            f"You are not authorized to perform this operation. {sentence}. "
            f"Encoded authorization failure message: {encoded}",
            status=403,
        )
    if "x-amz-target" in call.headers:
        return AWSError("AccessDeniedException", sentence, status=400)
    if service == "sns":
        return AWSError("AuthorizationError", sentence, status=403)
    form = call.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    code = "AccessDenied" if form or service in _XML_SERVICES else "AccessDeniedException"
    return AWSError(code, sentence, status=403)
