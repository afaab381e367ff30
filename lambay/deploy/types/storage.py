"""AWS::S3::*, AWS::ECR::Repository, AWS::DynamoDB::Table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lambay.deploy.types.base import At, Made, Properties, ResourceType, as_list, changed, gone, take
from lambay.deploy.types.ec2 import as_json
from lambay.deploy.types.plain import Plain


class Bucket(ResourceType):
    name = "AWS::S3::Bucket"

    async def create(self, at: At, properties: Properties) -> Made:
        name = properties.get("BucketName") or at.name(63, lower=True)
        where = (
            {}
            if at.region == "us-east-1"
            else {"CreateBucketConfiguration": {"LocationConstraint": at.region}}
        )
        acl = properties.get("AccessControl")
        await at.call(
            "s3",
            "CreateBucket",
            Bucket=name,
            **where,
            ObjectLockEnabledForBucket=properties.get("ObjectLockEnabled"),
            ACL=_acl(acl) if acl else None,
        )
        await self._settle(at, name, properties, {})
        return self._made(at, name)

    def _made(self, at: At, name: str) -> Made:
        return Made(
            name,
            {
                "Arn": f"arn:aws:s3:::{name}",
                "DomainName": f"{name}.s3.amazonaws.com",
                "DualStackDomainName": f"{name}.s3.dualstack.{at.region}.amazonaws.com",
                "RegionalDomainName": f"{name}.s3.{at.region}.amazonaws.com",
                "WebsiteURL": f"http://{name}.s3-website-{at.region}.amazonaws.com",
            },
        )

    async def _settle(self, at: At, bucket: str, properties: Properties, before: Properties) -> None:
        for name, (put, removed, shaped) in _BUCKET.items():
            if not changed(before, properties, name):
                continue
            if name in properties:
                await at.call("s3", put, Bucket=bucket, **shaped(properties[name]))
            elif removed:
                await gone(at.call("s3", removed, Bucket=bucket))
        if changed(before, properties, "NotificationConfiguration"):
            given = _notifications(properties.get("NotificationConfiguration", {}))
            await at.call(
                "s3", "PutBucketNotificationConfiguration", Bucket=bucket, NotificationConfiguration=given
            )

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await self._settle(at, id, properties, before)
        return self._made(at, id)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        """An empty one; objects keep it, as in CloudFormation."""
        await gone(at.call("s3", "DeleteBucket", Bucket=id))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [properties.get("BucketName") or at.name(63, lower=True)]


def _acl(name: str) -> str:
    """`PublicRead` in templates is `public-read` in the API."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")


def _encryption(given: Mapping[str, Any]) -> dict[str, Any]:
    rules = [
        {
            **(
                {"ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"]}
                if "ServerSideEncryptionByDefault" in rule
                else {}
            ),
            **take(rule, "BucketKeyEnabled"),
        }
        for rule in given.get("ServerSideEncryptionConfiguration", [])
    ]
    return {"ServerSideEncryptionConfiguration": {"Rules": rules}}


def _cors(given: Mapping[str, Any]) -> dict[str, Any]:
    names = {"MaxAge": "MaxAgeSeconds", "Id": "ID", "ExposedHeaders": "ExposeHeaders"}
    rules = [{names.get(key, key): item for key, item in rule.items()} for rule in given.get("CorsRules", [])]
    return {"CORSConfiguration": {"CORSRules": rules}}


def _lifecycle(given: Mapping[str, Any]) -> dict[str, Any]:
    """The template's flat rules as the API nests them."""
    rules = []
    for rule in given.get("Rules", []):
        made: dict[str, Any] = {"Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
        made |= {"ID": rule["Id"]} if "Id" in rule else {}
        expiration = {
            name: rule[key]
            for key, name in (
                ("ExpirationInDays", "Days"),
                ("ExpirationDate", "Date"),
                ("ExpiredObjectDeleteMarker", "ExpiredObjectDeleteMarker"),
            )
            if key in rule
        }
        made |= {"Expiration": expiration} if expiration else {}
        moved = as_list(rule.get("Transitions")) or as_list(rule.get("Transition"))
        if moved:
            made["Transitions"] = [
                {
                    "StorageClass": item["StorageClass"],
                    **({"Days": item["TransitionInDays"]} if "TransitionInDays" in item else {}),
                }
                for item in moved
            ]
        days = rule.get("NoncurrentVersionExpirationInDays") or rule.get(
            "NoncurrentVersionExpiration", {}
        ).get("NoncurrentDays")
        made |= {"NoncurrentVersionExpiration": {"NoncurrentDays": days}} if days else {}
        if "AbortIncompleteMultipartUpload" in rule:
            made["AbortIncompleteMultipartUpload"] = rule["AbortIncompleteMultipartUpload"]
        rules.append(made)
    return {"LifecycleConfiguration": {"Rules": rules}}


def _notifications(given: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {
        "LambdaConfigurations": ("LambdaFunctionConfigurations", "LambdaFunctionArn", "Function"),
        "QueueConfigurations": ("QueueConfigurations", "QueueArn", "Queue"),
        "TopicConfigurations": ("TopicConfigurations", "TopicArn", "Topic"),
    }
    made: dict[str, Any] = {}
    for name, (listed, member, property_) in kinds.items():
        entries = []
        for one in given.get(name, []):
            entry: dict[str, Any] = {member: one[property_], "Events": [one["Event"]]}
            if "Filter" in one:
                rules = one["Filter"].get("S3Key", {}).get("Rules", [])
                entry["Filter"] = {"Key": {"FilterRules": rules}}
            entries.append(entry)
        if entries:
            made[listed] = entries
    if "EventBridgeConfiguration" in given:
        made["EventBridgeConfiguration"] = {}
    return made


def _website(given: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = take(given, "RedirectAllRequestsTo")
    if "IndexDocument" in given:
        made["IndexDocument"] = {"Suffix": given["IndexDocument"]}
    if "ErrorDocument" in given:
        made["ErrorDocument"] = {"Key": given["ErrorDocument"]}
    return {"WebsiteConfiguration": made}


_BUCKET: dict[str, tuple[str, str | None, Any]] = {
    "VersioningConfiguration": (
        "PutBucketVersioning",
        None,
        lambda given: {"VersioningConfiguration": given},
    ),
    "BucketEncryption": ("PutBucketEncryption", "DeleteBucketEncryption", _encryption),
    "CorsConfiguration": ("PutBucketCors", "DeleteBucketCors", _cors),
    "LifecycleConfiguration": ("PutBucketLifecycleConfiguration", "DeleteBucketLifecycle", _lifecycle),
    "PublicAccessBlockConfiguration": (
        "PutPublicAccessBlock",
        "DeletePublicAccessBlock",
        lambda given: {"PublicAccessBlockConfiguration": given},
    ),
    "OwnershipControls": (
        "PutBucketOwnershipControls",
        "DeleteBucketOwnershipControls",
        lambda given: {"OwnershipControls": given},
    ),
    "WebsiteConfiguration": ("PutBucketWebsite", "DeleteBucketWebsite", _website),
    "Tags": ("PutBucketTagging", "DeleteBucketTagging", lambda given: {"Tagging": {"TagSet": given}}),
}


class BucketPolicy(ResourceType):
    name = "AWS::S3::BucketPolicy"

    async def create(self, at: At, properties: Properties) -> Made:
        return await self.update(at, properties["Bucket"], properties, {})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await at.call("s3", "PutBucketPolicy", Bucket=id, Policy=as_json(properties["PolicyDocument"]))
        return Made(id)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("s3", "DeleteBucketPolicy", Bucket=id))


class Repository(ResourceType):
    name = "AWS::ECR::Repository"

    async def create(self, at: At, properties: Properties) -> Made:
        name = properties.get("RepositoryName") or at.name(256, lower=True)
        encryption = properties.get("EncryptionConfiguration")
        made = await at.call(
            "ecr",
            "CreateRepository",
            repositoryName=name,
            imageTagMutability=properties.get("ImageTagMutability"),
            imageScanningConfiguration=_small(properties.get("ImageScanningConfiguration")),
            encryptionConfiguration=_small(encryption),
            tags=properties.get("Tags"),
        )
        await self._settle(at, name, properties, {})
        repository = made["repository"]
        return Made(name, {"Arn": repository["repositoryArn"], "RepositoryUri": repository["repositoryUri"]})

    async def _settle(self, at: At, name: str, properties: Properties, before: Properties) -> None:
        if changed(before, properties, "RepositoryPolicyText"):
            policy = as_json(properties.get("RepositoryPolicyText"))
            if policy is not None:
                await at.call("ecr", "SetRepositoryPolicy", repositoryName=name, policyText=policy)
            else:
                await gone(at.call("ecr", "DeleteRepositoryPolicy", repositoryName=name))
        if changed(before, properties, "LifecyclePolicy"):
            text = properties.get("LifecyclePolicy", {}).get("LifecyclePolicyText")
            if text is not None:
                await at.call("ecr", "PutLifecyclePolicy", repositoryName=name, lifecyclePolicyText=text)
            else:
                await gone(at.call("ecr", "DeleteLifecyclePolicy", repositoryName=name))

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await self._settle(at, id, properties, before)
        if changed(before, properties, "ImageTagMutability"):
            mutability = properties.get("ImageTagMutability", "MUTABLE")
            await at.call("ecr", "PutImageTagMutability", repositoryName=id, imageTagMutability=mutability)
        if changed(before, properties, "ImageScanningConfiguration"):
            given = _small(properties.get("ImageScanningConfiguration", {"ScanOnPush": False}))
            await at.call(
                "ecr", "PutImageScanningConfiguration", repositoryName=id, imageScanningConfiguration=given
            )
        found = (await at.call("ecr", "DescribeRepositories", repositoryNames=[id]))["repositories"][0]
        return Made(id, {"Arn": found["repositoryArn"], "RepositoryUri": found["repositoryUri"]})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        force = properties.get("EmptyOnDelete", False)
        await gone(at.call("ecr", "DeleteRepository", repositoryName=id, force=force))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [properties.get("RepositoryName") or at.name(256, lower=True)]


def _small(value: Any) -> Any:
    if isinstance(value, dict):
        return {key[:1].lower() + key[1:]: _small(item) for key, item in value.items()}
    return value


class Table(Plain):
    name = "AWS::DynamoDB::Table"
    service, made_by, updated_by, removed_by = "dynamodb", "CreateTable", None, "DeleteTable"
    id_member = name_property = "TableName"
    name_most = 255
    attribute_paths: ClassVar[Mapping[str, str]] = {
        "Arn": "TableDescription.TableArn",
        "StreamArn": "TableDescription.LatestStreamArn",
    }

    def input(self, at: At, properties: Properties) -> dict[str, Any]:
        given = super().input(at, properties)
        later = (
            "TimeToLiveSpecification",
            "PointInTimeRecoverySpecification",
            "ContributorInsightsSpecification",
        )
        given = {key: item for key, item in given.items() if key not in later}
        if "StreamSpecification" in given:
            given["StreamSpecification"] = {"StreamEnabled": True, **given["StreamSpecification"]}
        specification = given.get("SSESpecification", {})
        if "SSEEnabled" in specification:
            given["SSESpecification"] = {
                "Enabled": specification["SSEEnabled"],
                **take(specification, "SSEType", "KMSMasterKeyId"),
            }
        return given

    async def create(self, at: At, properties: Properties) -> Made:
        made = await super().create(at, properties)
        if "TimeToLiveSpecification" in properties:
            await at.call(
                "dynamodb",
                "UpdateTimeToLive",
                TableName=made.id,
                TimeToLiveSpecification=properties["TimeToLiveSpecification"],
            )
        return made


TYPES: tuple[ResourceType, ...] = (Bucket(), BucketPolicy(), Repository(), Table())
