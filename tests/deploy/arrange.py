"""Stacks on a running server: deploy, wait for the end, look."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from tests.e2e.arrange import RUNTIME, Lambay, unique

CAPABILITIES = ["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]

_ANSWERING = """
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: 2012-10-17
        Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: 'sts:AssumeRole'}]
  Answering:
    Type: AWS::Lambda::Function
    Properties:
      Runtime: RUNTIME
      Handler: index.handler
      Timeout: 20
      Role: !GetAtt Role.Arn
      Code:
        ZipFile: |
"""


def answering(code: str) -> str:
    """The resources `Role` and `Answering`: a function for custom resources."""
    return _ANSWERING + textwrap.indent(textwrap.dedent(code).strip("\n"), " " * 10) + "\n"


class Cloud:
    """CloudFormation on a server, and the services that its stacks are looked at with."""

    def __init__(self, server: Lambay) -> None:
        self.server = server
        self.formation = server.boto("cloudformation")
        self.efs, self.ec2 = server.boto("efs"), server.boto("ec2")
        self.lambda_, self.iam = server.boto("lambda"), server.boto("iam")

    def ended(self, arn: str) -> dict[str, Any]:
        """The stack once nothing is under way. CloudFormation has no event for it."""
        while True:
            stack: dict[str, Any] = self.formation.describe_stacks(StackName=arn)["Stacks"][0]
            if not stack["StackStatus"].endswith("_IN_PROGRESS"):
                return stack

    def create(self, template: str, **given: Any) -> Stack:
        name = given.pop("StackName", unique("stack"))
        parameters = parameters_of(given.pop("parameters", {}))
        body = template.replace("RUNTIME", RUNTIME)
        answer = self.formation.create_stack(
            StackName=name, TemplateBody=body, Capabilities=CAPABILITIES, Parameters=parameters, **given
        )
        return Stack(self, name, answer["StackId"])


class Stack:
    def __init__(self, cloud: Cloud, name: str, arn: str) -> None:
        self.cloud, self.name, self.arn = cloud, name, arn

    @property
    def status(self) -> str:
        """Once nothing is under way."""
        return str(self.cloud.ended(self.arn)["StackStatus"])

    @property
    def outputs(self) -> dict[str, str]:
        listed = self.cloud.ended(self.arn).get("Outputs", [])
        return {output["OutputKey"]: output["OutputValue"] for output in listed}

    @property
    def resources(self) -> dict[str, str]:
        """Physical ids by logical ones."""
        listed = self.cloud.formation.list_stack_resources(StackName=self.arn)["StackResourceSummaries"]
        return {one["LogicalResourceId"]: one.get("PhysicalResourceId", "") for one in listed}

    def update(self, template: str | None = None, **parameters: str) -> str:
        """The status after it."""
        body = (
            {"UsePreviousTemplate": True}
            if template is None
            else {"TemplateBody": template.replace("RUNTIME", RUNTIME)}
        )
        self.cloud.formation.update_stack(
            StackName=self.name, Capabilities=CAPABILITIES, Parameters=parameters_of(parameters), **body
        )
        return self.status

    def delete(self) -> str:
        self.cloud.formation.delete_stack(StackName=self.arn)
        return self.status

    def events(self) -> list[tuple[str, str, str]]:
        """Resource, status and reason, oldest first."""
        found: list[dict[str, Any]] = []
        pages = self.cloud.formation.get_paginator("describe_stack_events")
        for page in pages.paginate(StackName=self.arn):
            found += page["StackEvents"]
        return [
            (one["LogicalResourceId"], one["ResourceStatus"], one.get("ResourceStatusReason", ""))
            for one in found[::-1]
        ]

    def failures(self) -> list[tuple[str, str, str]]:
        return [event for event in self.events() if event[1].endswith("_FAILED")]

    def invoke(self, name: str, event: Any = None) -> Any:
        """The answer of the function with this logical id."""
        answer = self.cloud.lambda_.invoke(FunctionName=self.resources[name], Payload=json.dumps(event))
        payload = json.loads(answer["Payload"].read() or b"null")
        assert "FunctionError" not in answer, payload
        return payload


def parameters_of(given: dict[str, str]) -> list[dict[str, str]]:
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()]
