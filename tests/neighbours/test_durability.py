"""What was acknowledged is there in the next process, with the same identifiers and dates."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from lambay.aws import AWSError
from lambay.neighbours import Neighbours, durable
from lambay.neighbours.engine import Answer, Engine
from lambay.neighbours.journal import Recorded
from lambay.neighbours.moment import Moment

from .clients import ACCOUNT, REGION, Client, connect, opened
from .scenario import make

HERE: dict[str, Any] = {"account": ACCOUNT, "region": REGION}
_SCENARIO = Path(__file__).with_name("scenario.py")


async def scenario(directory: Path, what: str, *, says: str = "") -> dict[str, Any]:
    """What the account shows in a process of its own, which dies without closing.

    It must log nothing but one line with `says`.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(_SCENARIO), str(directory), what, stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert len(err.splitlines()) == bool(says), err.decode()
    assert says in err.decode()
    shown: dict[str, Any] = json.loads(out)
    return shown


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [f"{title}: {one[title]} != {other[title]}" for title in one if one[title] != other[title]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    directory = tmp_path_factory.mktemp("account")
    return directory, asyncio.run(scenario(directory, "make"))


async def test_a_rich_account_is_the_same_after_a_replay_after_a_snapshot_and_after_an_upgrade_of_moto(
    made: tuple[Path, dict[str, Any]],
) -> None:
    directory, before = made
    assert len(before) > 60
    assert differences(before, await scenario(directory, "look")) == []

    assert differences(before, await scenario(directory, "snapshot")) == []
    assert len(list(directory.glob("state-*.pickle"))) == 1
    assert differences(before, await scenario(directory, "look")) == []

    with sqlite3.connect(directory / "journal.db") as database:
        (mark,) = database.execute("SELECT value FROM marks WHERE name = 'snapshot'").fetchone()
        changed = json.dumps(json.loads(mark) | {"version": "moto 0.0.1"}).encode()
        database.execute("UPDATE marks SET value = ? WHERE name = 'snapshot'", (changed,))
    after = await scenario(directory, "look", says="moto 0.0.1: replaying the whole journal")
    assert differences(before, after) == []


async def test_every_answer_of_a_replay_is_the_original_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[tuple[Any, ...]] = []
    run = Engine.run

    def recording(engine: Engine, module: str, request: Recorded, at: Moment | None, body: bytes) -> Answer:
        answer = run(engine, module, request, at, body)
        # The OpenSSH format of an Ed25519 key holds a random number beside the key.
        if at is not None and answer.successful and b"KeyType=ed25519" not in body:
            answers.append((module, request.url, answer.status, answer.headers, bytes(answer.body)))
        return answer

    monkeypatch.setattr(Engine, "run", recording)
    monkeypatch.setattr(durable, "_CHANGES_WORTH_A_SNAPSHOT", 10_000)
    async with opened(tmp_path) as neighbours:
        await make(neighbours)
    originals = answers.copy()
    answers.clear()
    async with opened(tmp_path) as neighbours:
        await neighbours.ready()
    assert len(originals) > 90
    assert answers == originals


async def test_a_damaged_snapshot_is_replaced_by_a_replay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path) as neighbours:
        vpc = await connect(neighbours, "ec2").create_vpc(CidrBlock="10.0.0.0/16")
        await neighbours.snapshot()
    (state,) = tmp_path.glob("state-*.pickle")
    state.write_bytes(state.read_bytes()[:-1])
    async with opened(tmp_path) as neighbours:
        await connect(neighbours, "ec2").describe_vpcs(VpcIds=[vpc["Vpc"]["VpcId"]])
    assert "replaying the whole journal" in caplog.text


async def test_changes_after_a_snapshot_are_replayed_on_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        ec2 = connect(neighbours, "ec2")
        first = (await ec2.create_vpc(CidrBlock="10.0.0.0/16"))["Vpc"]["VpcId"]
        await neighbours.snapshot()
        second = (await ec2.create_vpc(CidrBlock="10.1.0.0/16"))["Vpc"]["VpcId"]
        await ec2.delete_vpc(VpcId=first)
    async with opened(tmp_path) as neighbours:
        found = await connect(neighbours, "ec2").describe_vpcs(
            Filters=[{"Name": "is-default", "Values": ["false"]}]
        )
        assert [vpc["VpcId"] for vpc in found["Vpcs"]] == [second]


async def test_a_read_before_the_first_change_does_not_shift_its_identifiers(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        iam = connect(neighbours, "iam")
        await iam.list_roles()
        made = await iam.create_role(RoleName="first", AssumeRolePolicyDocument='{"Statement": []}')
        (tmp_path / "killed").mkdir()
        for path in tmp_path.glob("journal.db*"):
            shutil.copy(path, tmp_path / "killed")
    async with opened(tmp_path / "killed") as neighbours:
        found = await connect(neighbours, "iam").get_role(RoleName="first")
    assert found["Role"]["RoleId"] == made["Role"]["RoleId"]


async def test_defaults_made_by_a_read_keep_their_identifiers(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        before = await connect(neighbours, "ec2", region="us-west-2").describe_subnets()
    async with opened(tmp_path) as neighbours:
        await connect(neighbours, "ec2").describe_subnets()
        after = await connect(neighbours, "ec2", region="us-west-2").describe_subnets()
    assert before == after


@pytest.mark.parametrize("by", ["replay", "snapshot"])
async def test_old_ciphertexts_and_signatures_stay_good(tmp_path: Path, by: str) -> None:
    async with opened(tmp_path) as neighbours:
        kms = connect(neighbours, "kms")
        symmetric = await _key(kms, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")
        secret = (await kms.encrypt(KeyId=symmetric, Plaintext=b"secret"))["CiphertextBlob"]
        data_key = await kms.generate_data_key(KeyId=symmetric, KeySpec="AES_256")
        signatures = {}
        for spec, algorithm in (
            ("RSA_2048", "RSASSA_PSS_SHA_256"),
            ("ECC_NIST_P256", "ECDSA_SHA_256"),
            ("ECC_SECG_P256K1", "ECDSA_SHA_256"),
        ):
            key = await _key(kms, spec, "SIGN_VERIFY")
            made = await kms.sign(KeyId=key, Message=b"message", SigningAlgorithm=algorithm)
            signatures[key] = (algorithm, made["Signature"])
        hashing = await _key(kms, "HMAC_256", "GENERATE_VERIFY_MAC")
        mac = (await kms.generate_mac(KeyId=hashing, Message=b"m", MacAlgorithm="HMAC_SHA_256"))["Mac"]
        if by == "snapshot":
            await neighbours.snapshot()
    async with opened(tmp_path) as neighbours:
        kms = connect(neighbours, "kms")
        assert (await kms.decrypt(CiphertextBlob=secret))["Plaintext"] == b"secret"
        again = await kms.decrypt(CiphertextBlob=data_key["CiphertextBlob"])
        assert again["Plaintext"] == data_key["Plaintext"]
        for key, (algorithm, signature) in signatures.items():
            verdict = await kms.verify(
                KeyId=key, Message=b"message", Signature=signature, SigningAlgorithm=algorithm
            )
            assert verdict["SignatureValid"]
        verdict = await kms.verify_mac(KeyId=hashing, Message=b"m", Mac=mac, MacAlgorithm="HMAC_SHA_256")
        assert verdict["MacValid"]


async def test_access_keys_keep_their_secrets(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        iam = connect(neighbours, "iam")
        await iam.create_user(UserName="ann")
        made = (await iam.create_access_key(UserName="ann"))["AccessKey"]
    async with opened(tmp_path) as neighbours:
        secret = await neighbours.run(lambda _: _secret_of(made["AccessKeyId"]))
    assert secret == made["SecretAccessKey"]


def _secret_of(access_key_id: str) -> str:
    from moto.iam.models import iam_backends

    return str(iam_backends[ACCOUNT]["aws"].access_keys[access_key_id].secret_access_key)


async def test_secrets_and_parameters_keep_their_values_and_versions(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        secrets, ssm = connect(neighbours, "secretsmanager"), connect(neighbours, "ssm")
        await secrets.create_secret(Name="s", SecretBinary=b"\x00\xff")
        before = await secrets.get_secret_value(SecretId="s")
        await ssm.put_parameter(Name="/p", Value="1", Type="SecureString")
        await ssm.put_parameter(Name="/p", Value="2", Type="SecureString", Overwrite=True)
    async with opened(tmp_path) as neighbours:
        secrets, ssm = connect(neighbours, "secretsmanager"), connect(neighbours, "ssm")
        assert await secrets.get_secret_value(SecretId="s") == before
        found = (await ssm.get_parameter(Name="/p", WithDecryption=True))["Parameter"]
        assert (found["Value"], found["Version"]) == ("2", 2)


async def test_a_failed_commit_takes_the_change_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as neighbours:
        iam = connect(neighbours, "iam")
        await iam.create_user(UserName="kept")

        async def full(*_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(neighbours._moto._journal, "append", full)
            with pytest.raises(Exception, match="could not be made durable"):
                await iam.create_user(UserName="lost")
        users = (await iam.list_users())["Users"]
        assert [user["UserName"] for user in users] == ["kept"]


async def test_changes_made_on_top_of_one_that_failed_fail_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as neighbours:
        journal = neighbours._moto._journal
        append, appended = journal.append, 0

        async def failing_once(*given: Any) -> None:
            nonlocal appended
            appended += 1
            if appended == 3:
                raise sqlite3.OperationalError("database or disk is full")
            await append(*given)

        monkeypatch.setattr(journal, "append", failing_once)

        async def create(n: int) -> str | None:
            try:
                await neighbours.call("iam", "CreateUser", {"UserName": f"user-{n}"}, **HERE)
            except AWSError as error:
                return None if error.code == "InternalFailure" else error.code
            return f"user-{n}"

        done = await asyncio.gather(*(create(n) for n in range(12)))
        acknowledged = {name for name in done if name is not None}
        assert 2 <= len(acknowledged) < 12
        assert await _users(neighbours) == acknowledged
    async with opened(tmp_path) as neighbours:
        assert await _users(neighbours) == acknowledged


async def _users(neighbours: Neighbours) -> set[str]:
    listed = await neighbours.call("iam", "ListUsers", {}, **HERE)
    return {user["UserName"] for user in listed["Users"]}


async def test_nothing_acknowledged_is_lost_to_a_kill(tmp_path: Path) -> None:
    """A writer is killed at some moment, several times; what it said it had done is there."""
    acknowledged: list[str] = []
    for round_ in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _WRITER, str(tmp_path), str(round_), stdout=-1
        )
        assert process.stdout is not None
        for _ in range(20 + 30 * round_):
            acknowledged.append((await process.stdout.readline()).decode().strip())
        os.kill(process.pid, signal.SIGKILL)
        rest = await process.stdout.read()
        acknowledged += [line.decode() for line in rest.split(b"\n")[:-1]]
        await process.wait()
    async with opened(tmp_path) as neighbours:
        listed = await _parameters(neighbours)
        assert set(acknowledged) <= listed
        assert len(acknowledged) >= 150


_WRITER = """
import asyncio, sys
from pathlib import Path
from lambay.clock import Clock
from lambay.neighbours import Neighbours
from lambay.settings import Settings

async def main(directory, round_):
    neighbours = Neighbours(Path(directory), Settings(), Clock())
    async def write(lane):
        for n in range(10_000):
            name = f"/{round_}/{lane}/{n}"
            given = {"Name": name, "Value": "v", "Type": "String"}
            await neighbours.call("ssm", "PutParameter", given, account="111122223333", region="eu-west-1")
            print(name, flush=True)
            if n % 20 == 7 and lane == 0:
                await neighbours.snapshot()
    await asyncio.gather(*(write(lane) for lane in range(4)))

asyncio.run(main(*sys.argv[1:]))
"""


async def _parameters(neighbours: Neighbours) -> set[str]:
    names: set[str] = set()
    given: dict[str, Any] = {"MaxResults": 50}
    while True:
        page = await neighbours.call("ssm", "DescribeParameters", given, **HERE)
        names |= {parameter["Name"] for parameter in page["Parameters"]}
        if "NextToken" not in page:
            return names
        given["NextToken"] = page["NextToken"]


async def _key(kms: Client, spec: str, usage: str) -> str:
    made = await kms.create_key(KeySpec=spec, KeyUsage=usage)
    return str(made["KeyMetadata"]["KeyId"])


@pytest.mark.parametrize("closed", [True, False], ids=["snapshot", "journal"])
async def test_keys_of_awss_own_are_the_same_after_a_restart(tmp_path: Path, closed: bool) -> None:
    """They come to be when somebody asks for their alias, which is a read."""
    async with opened(tmp_path) as neighbours:
        kms = connect(neighbours, "kms")
        await kms.create_key()
        key = (await kms.describe_key(KeyId="alias/aws/elasticfilesystem"))["KeyMetadata"]["Arn"]
        sealed = (await kms.encrypt(KeyId=key, Plaintext=b"x"))["CiphertextBlob"]
        if not closed:
            await kms.create_alias(AliasName="alias/a", TargetKeyId=key)
            shutil.copytree(tmp_path, tmp_path.with_name("killed"))
    async with opened(tmp_path if closed else tmp_path.with_name("killed")) as neighbours:
        kms = connect(neighbours, "kms")
        assert (await kms.describe_key(KeyId=key))["KeyMetadata"]["KeyManager"] == "AWS"
        assert (await kms.decrypt(CiphertextBlob=sealed))["Plaintext"] == b"x"
        other = (await kms.describe_key(KeyId="alias/aws/elasticfilesystem"))["KeyMetadata"]["Arn"]
        assert other == key
