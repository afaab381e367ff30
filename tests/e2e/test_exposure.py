"""A server that other machines reach: its secret, its certificate, and that nothing changes without a signature."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock
from urllib.parse import urlsplit

import boto3
import pytest
import urllib3
from botocore.config import Config
from botocore.exceptions import ClientError, SSLError
from botocore.loaders import Loader

from lambay.own_pages import OwnPages
from tests.e2e.arrange import LAMBAY, PATIENCE, Deployer, Lambay

SECRET = "a-secret-that-nobody-knows"


class Exposed(Lambay):
    """Listens on every address, with TLS."""

    def __init__(self, data_dir: Path) -> None:
        os.environ["LAMBAY_SECRET_ACCESS_KEY"] = SECRET
        options = ("--host", "0.0.0.0", "--tls", "generated", "--allow-reset", "--log-level", "debug")
        super().__init__(data_dir, *options)

    @property
    def certificate(self) -> Path:
        return self.data_dir / "tls" / "certificate.pem"

    @property
    def address(self) -> str:
        return self.endpoint.replace("0.0.0.0", "127.0.0.1")

    def boto(self, service: str, key: str = "test", secret: str = SECRET, token: str | None = None) -> Any:
        return boto3.Session(key, secret, token, region_name="us-east-1").client(
            service,
            endpoint_url=self.address,
            verify=str(self.certificate),
            config=Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE),
        )

    def ask(self, method: str, path: str) -> urllib3.BaseHTTPResponse:
        """The answer to a request without a signature."""
        pool = urllib3.PoolManager(ca_certs=str(self.certificate))
        return pool.request(method, path if path.startswith("https") else self.address + path, retries=False)

    def status(self) -> dict[str, Any]:
        environment = {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_CA_BUNDLE": str(self.certificate),
            "LAMBAY_SECRET_ACCESS_KEY": SECRET,
        }
        told = subprocess.run(
            [str(LAMBAY), "status", "--json"],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
        )
        return dict(json.loads(told.stdout))


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exposed]:
    server = Exposed(tmp_path_factory.mktemp("exposed"))
    yield server
    server.stop()
    del os.environ["LAMBAY_SECRET_ACCESS_KEY"]


@pytest.mark.parametrize("secret", [None, "", "test"])
def test_another_address_wants_a_secret_of_its_own(tmp_path: Path, secret: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LAMBAY_SECRET_ACCESS_KEY"}
    if secret is not None:
        environment["LAMBAY_SECRET_ACCESS_KEY"] = secret
    started = subprocess.run(
        [str(LAMBAY), "up", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=PATIENCE,
    )
    assert started.returncode == 1
    assert "set secret_key (LAMBAY_SECRET_ACCESS_KEY)" in started.stderr
    assert not (tmp_path / "data").exists()


def test_clients_that_trust_the_certificate_are_served(exposed: Exposed) -> None:
    assert exposed.endpoint.startswith("https://0.0.0.0:")
    assert exposed.boto("sts").get_caller_identity()["Arn"].endswith(":root")
    with pytest.raises(ClientError, match=r"InvalidClientTokenId|SignatureDoesNotMatch"):
        exposed.boto("sts", secret="test").get_caller_identity()
    untrusting = boto3.client(
        "sts",
        endpoint_url=exposed.address,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key=SECRET,
        config=Config(retries={"total_max_attempts": 1}),
    )
    with pytest.raises(SSLError):
        untrusting.get_caller_identity()
    with pytest.raises(urllib3.exceptions.HTTPError):
        urllib3.request("GET", exposed.address.replace("https", "http"), retries=False)
    assert exposed.status()["account"] == "000000000000"


def test_secure_transport_is_a_condition_key(exposed: Exposed) -> None:
    iam = exposed.boto("iam")
    iam.create_user(UserName="ann")
    secure = {"Bool": {"aws:SecureTransport": "true"}}
    statement = {"Effect": "Allow", "Action": "iam:ListUsers", "Resource": "*", "Condition": secure}
    iam.put_user_policy(
        UserName="ann",
        PolicyName="own",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statement}),
    )
    key = iam.create_access_key(UserName="ann")["AccessKey"]
    assert exposed.boto("iam", key["AccessKeyId"], key["SecretAccessKey"]).list_users()["Users"]


def test_the_certificate_stays(exposed: Exposed) -> None:
    before = exposed.certificate.read_bytes()
    assert (exposed.data_dir / "tls" / "key.pem").stat().st_mode & 0o777 == 0o600
    exposed.stop()
    exposed.start()
    assert exposed.certificate.read_bytes() == before


# Services whose every operation is tried without a signature.
SERVICES = [
    "lambda",
    "efs",
    "logs",
    "sts",
    "cloudwatch",
    "cloudformation",
    "codedeploy",
    "iam",
    "ec2",
    "s3",
    "kms",
    "sqs",
    "sns",
    "ecr",
    "events",
    "ssm",
]
# They answer without a signature on AWS as well, and what they are asked for is refused for its own reasons.
UNSIGNED = {"s3": {"GetObject", "HeadObject"}, "sts": {"AssumeRoleWithSAML", "AssumeRoleWithWebIdentity"}}


def requests(service: str) -> Iterator[tuple[str, str, str, dict[str, str], bytes]]:
    """Operation, method, path, headers and body of every operation, without a signature."""
    model = Loader().load_service_model(service, "service-2")
    metadata = model["metadata"]
    host = f"{metadata['endpointPrefix']}.us-east-1.amazonaws.com"
    spoken = metadata.get("protocols", [metadata["protocol"]])
    protocol = next(each for each in ("json", "rest-json", "rest-xml", "query", "ec2") if each in spoken)
    for name, operation in model["operations"].items():
        http = operation["http"]
        path = http["requestUri"]
        path = re.sub(r"\{[^}]+\}", "x", path)
        headers, body = {"host": host}, b""
        if protocol == "json":
            headers["x-amz-target"] = f"{metadata['targetPrefix']}.{name}"
            headers["content-type"] = f"application/x-amz-json-{metadata['jsonVersion']}"
            body = b"{}"
        elif protocol in ("query", "ec2"):
            headers["content-type"] = "application/x-www-form-urlencoded"
            body = f"Action={name}&Version={metadata['apiVersion']}".encode()
        yield name, http["method"], path, headers, body


def test_no_operation_answers_without_a_signature(exposed: Exposed) -> None:
    exposed.boto("iam").list_users()
    before = exposed.status()
    pool = urllib3.HTTPSConnectionPool(
        "127.0.0.1", urlsplit(exposed.address).port, ca_certs=str(exposed.certificate), maxsize=1
    )
    answered, asked = [], 0
    for service in SERVICES:
        for operation, method, path, headers, body in requests(service):
            if operation in UNSIGNED.get(service, ()):
                continue
            answer = pool.request(method, path, body=body, headers=headers, redirect=False)
            asked += 1
            if answer.status < 400:
                answered.append(f"{service}:{operation} {answer.status} {answer.data[:80]!r}")
    assert answered == []
    assert asked > 1000
    after = exposed.status()
    for part in ("neighbours", "lambda", "file_systems"):
        assert after[part] == before[part]


def test_no_page_of_lambays_own_changes_anything_without_a_signature(exposed: Exposed) -> None:
    routes = {(method, path) for method, path in OwnPages(MagicMock()).routes if method != "GET"}
    assert ("POST", "/_lambay/reset") in routes
    reading = {("GET", path) for path in ("/_lambay/status", "/_lambay/mounts", "/_lambay/explain?arn=f")}
    for method, path in sorted(routes | reading):
        answer = exposed.ask(method, f"{path}x" if path.endswith("/") else path)
        assert answer.status in (400, 401, 403), (method, path, answer.data)
        assert "ignature" in answer.data.decode() or "oken" in answer.data.decode(), answer.data


def test_the_registry_takes_no_image_without_a_token(exposed: Exposed) -> None:
    writes = [("POST", "blobs/uploads/"), ("PUT", "manifests/latest"), ("DELETE", "manifests/latest")]
    for method, path in writes:
        answer = exposed.ask(method, f"/v2/x/{path}")
        assert answer.status == 401, (path, answer.data)


def test_secrets_are_not_in_the_log(exposed: Exposed) -> None:
    """At the most talkative level, through every way that a secret takes."""
    iam, kms, sts = (exposed.boto(service) for service in ("iam", "kms", "sts"))
    iam.create_user(UserName="bob")
    key = iam.create_access_key(UserName="bob")["AccessKey"]
    bob = exposed.boto("sts", key["AccessKeyId"], key["SecretAccessKey"])
    session = bob.get_session_token()["Credentials"]
    federated = sts.get_federation_token(Name="carol", Policy='{"Version":"2012-10-17","Statement":[]}')[
        "Credentials"
    ]
    exposed.boto(
        "sts", session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"]
    ).get_caller_identity()
    made = kms.create_key()["KeyMetadata"]["KeyId"]
    data_key = kms.generate_data_key(KeyId=made, KeySpec="AES_256")
    plaintext = kms.decrypt(CiphertextBlob=data_key["CiphertextBlob"])["Plaintext"]
    deploy = Deployer(exposed, "test", SECRET)
    function = deploy.function(
        "def handler(event, context): return 1", Environment={"Variables": {"PASSWORD": "swordfish-42"}}
    )
    deploy.invoke(function)
    url = exposed.boto("s3").generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
    exposed.ask("GET", url)
    with pytest.raises(ClientError):
        exposed.boto("sts", key["AccessKeyId"], "wrong").get_caller_identity()
    said = exposed.said()
    assert "GetSessionToken" in said
    secrets = {
        SECRET,
        key["SecretAccessKey"],
        session["SecretAccessKey"],
        session["SessionToken"],
        federated["SecretAccessKey"],
        federated["SessionToken"],
        base64.b64encode(plaintext).decode(),
        plaintext.hex(),
        "swordfish-42",
        url.partition("Signature=")[2].partition("&")[0],
    }
    assert [secret for secret in secrets if secret and secret in said] == []
