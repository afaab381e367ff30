"""Resource types that are not there, SAM's own and those of its events' sources included."""

from __future__ import annotations

from collections.abc import Iterator

from lambay.deploy.checklist.finding import Finding
from lambay.deploy.checklist.stack import SERVERLESS, Stack, mapping
from lambay.deploy.types.registry import advice, recognized

_SAM = "AWS::Serverless-2016-10-31"
# What SAM makes of its types and of the events of a function, where that need not be there.
_MADE_OF = {
    "AWS::Serverless::Api": "AWS::ApiGateway::RestApi",
    "AWS::Serverless::HttpApi": "AWS::ApiGatewayV2::Api",
    "AWS::Serverless::StateMachine": "AWS::StepFunctions::StateMachine",
    "AWS::Serverless::SimpleTable": "AWS::DynamoDB::Table",
    "AWS::Serverless::GraphQLApi": "AWS::AppSync::GraphQLApi",
}
_MADE_OF_EVENT = {
    "Api": "AWS::ApiGateway::RestApi",
    "HttpApi": "AWS::ApiGatewayV2::Api",
    "ScheduleV2": "AWS::Scheduler::Schedule",
    "IoTRule": "AWS::IoT::TopicRule",
}


def check(stack: Stack) -> Iterator[Finding]:
    transforms = stack.document.body.get("Transform")
    transformed = transforms == _SAM or (isinstance(transforms, list) and _SAM in transforms)
    for each in stack.resources.values():
        made_of = _MADE_OF.get(each.type, each.type) if transformed else each.type
        serverless = transformed and made_of.startswith("AWS::Serverless::")
        if each.type and not serverless and not recognized(made_of):
            yield _absent(stack.line(each.name, "Type"), each.name, made_of)
    for each in stack.of_type(SERVERLESS):
        for name, event in mapping(each.properties.get("Events")).items():
            source = _MADE_OF_EVENT.get(str(mapping(event).get("Type")))
            if transformed and source is not None and not recognized(source):
                line = stack.line(each.name, "Properties", "Events", name, "Type")
                yield _absent(line, f"event {name} of {each.name}", source)


def _absent(line: int, what: str, type: str) -> Finding:
    return Finding(
        line,
        "LB401",
        "error",
        f"{what}:{advice(type)}",
        "Give the function a URL instead: FunctionUrlConfig."
        if type.startswith("AWS::ApiGateway")
        else "Name a type that docs/coverage.md lists, or take the resource out.",
    )
