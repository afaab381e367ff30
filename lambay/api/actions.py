"""IAM's names for operations: mostly `PREFIX:Operation`, with the exceptions of the Service Authorization
Reference.
"""

from __future__ import annotations

import functools

from lambay.api import catalogue

# Services whose IAM prefix is not their signing name.
_PREFIXES = {
    "cloudwatch": "cloudwatch",
    "iot-data": "iot",
    "resourcegroupstaggingapi": "tag",
}

_EXCEPTIONS = {
    ("lambda", "Invoke"): "lambda:InvokeFunction",
    ("lambda", "InvokeAsync"): "lambda:InvokeFunction",
    ("lambda", "InvokeWithResponseStream"): "lambda:InvokeFunction",
    ("lambda", "GetLayerVersionByArn"): "lambda:GetLayerVersion",
    ("s3", "HeadObject"): "s3:GetObject",
    ("s3", "HeadBucket"): "s3:ListBucket",
    ("s3", "ListObjects"): "s3:ListBucket",
    ("s3", "ListObjectsV2"): "s3:ListBucket",
    ("s3", "ListObjectVersions"): "s3:ListBucketVersions",
    ("s3", "ListBuckets"): "s3:ListAllMyBuckets",
    ("s3", "CopyObject"): "s3:PutObject",
    ("s3", "CreateMultipartUpload"): "s3:PutObject",
    ("s3", "UploadPart"): "s3:PutObject",
    ("s3", "UploadPartCopy"): "s3:PutObject",
    ("s3", "CompleteMultipartUpload"): "s3:PutObject",
    ("s3", "ListParts"): "s3:ListMultipartUploadParts",
    ("s3", "ListMultipartUploads"): "s3:ListBucketMultipartUploads",
    ("s3", "DeleteObjects"): "s3:DeleteObject",
}


@functools.lru_cache(maxsize=4096)
def action(service: str, operation: str) -> str:
    """`lambda:InvokeFunction` for lambda's Invoke; `s3:*`-like where the operation is not known."""
    known = _EXCEPTIONS.get((service, operation))
    return known or f"{prefix(service)}:{operation or '*'}"


@functools.cache
def prefix(service: str) -> str:
    """The IAM prefix of a service by botocore's name: `elasticfilesystem` for efs."""
    return _PREFIXES.get(service) or catalogue.entry(service).signing_name
