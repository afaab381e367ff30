"""kill -9 in the midst of a deployment: the next start rolls it back, and nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.arrange import Cloud
from tests.deploy.test_stacks import vestiges
from tests.e2e.arrange import RUNTIME, Lambay


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Lambay]:
    running = Lambay(tmp_path / "data")
    yield running
    if running.process.poll() is None:
        running.stop()


# Never signalled: the deployment is certainly under way when the server dies.
NEVER = """
  Handle: {Type: AWS::CloudFormation::WaitConditionHandle}
  Wait:
    Type: AWS::CloudFormation::WaitCondition
    DependsOn: [EFSMountTarget1, PublicRoute]
    Properties: {Handle: !Ref Handle, Timeout: 43200}
Outputs:
"""


def test_a_creation_that_was_cut_off_rolls_back(server: Lambay, template: str) -> None:
    before = vestiges(Cloud(server))
    stack = Cloud(server).create(template.replace("Outputs:\n", NEVER))
    while stack.resources.get("Wait") is None:
        pass
    server.kill()

    server.start()

    cloud = Cloud(server)
    stack.cloud = cloud
    assert stack.status == "ROLLBACK_COMPLETE", stack.failures()
    assert vestiges(cloud) == before


def test_an_update_that_was_cut_off_rolls_back(server: Lambay, template: str) -> None:
    stack = Cloud(server).create(template)
    assert stack.status == "CREATE_COMPLETE", stack.failures()
    resources = stack.resources
    stack.invoke("Writer", {"text": "before"})
    changed = template.replace("Path: /lambda", "Path: /elsewhere").replace("Outputs:\n", NEVER)
    stack.cloud.formation.update_stack(
        StackName=stack.name,
        TemplateBody=changed.replace("RUNTIME", RUNTIME),
        Capabilities=["CAPABILITY_IAM"],
    )
    while "Wait" not in stack.resources:
        pass
    server.kill()

    server.start()

    stack.cloud = Cloud(server)
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE", stack.failures()
    assert stack.resources == resources
    assert stack.invoke("Reader") == "before"
    assert stack.delete() == "DELETE_COMPLETE", stack.failures()


def test_a_deletion_that_was_cut_off_goes_on(server: Lambay, template: str) -> None:
    before = vestiges(Cloud(server))
    stack = Cloud(server).create(template)
    assert stack.status == "CREATE_COMPLETE", stack.failures()
    stack.cloud.formation.delete_stack(StackName=stack.name)
    server.kill()

    server.start()

    cloud = Cloud(server)
    stack.cloud = cloud
    assert stack.status == "DELETE_COMPLETE", stack.failures()
    assert vestiges(cloud) == before
