"""Reading templates: dialects, form, references, the graph, parameters; each fault in AWS's words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambay.aws import AWSError
from lambay.deploy import planning
from lambay.deploy.template import graph, loops, parameters
from lambay.deploy.template.reading import read
from lambay.deploy.template.template import capabilities, parse
from tests.deploy.values import Names

QUEUE = "Resources: {Q: {Type: 'AWS::SQS::Queue'}}"


def fault(text: str) -> str:
    with pytest.raises(AWSError) as refused:
        planning.check_types(parse(read(text)))
    assert refused.value.code == "ValidationError"
    return refused.value.message


def test_short_forms_are_the_long_ones() -> None:
    body = read(
        """
        A: !Ref X
        B: !GetAtt X.Y.Z
        C: !Sub "${X}"
        D: !If [Isso, !Ref X, !GetAZs ""]
        E: !Join ["", [!Select [0, !Split [",", "a,b"]]]]
        F: !Not [!Condition Isso]
        """
    ).body

    assert body == {
        "A": {"Ref": "X"},
        "B": {"Fn::GetAtt": ["X", "Y.Z"]},
        "C": {"Fn::Sub": "${X}"},
        "D": {"Fn::If": ["Isso", {"Ref": "X"}, {"Fn::GetAZs": ""}]},
        "E": {"Fn::Join": ["", [{"Fn::Select": [0, {"Fn::Split": [",", "a,b"]}]}]]},
        "F": {"Fn::Not": [{"Condition": "Isso"}]},
    }


def test_dates_and_modes_are_text() -> None:
    assert read("Version: 2012-10-17\nMode: 0755\nPort: 2049\nOn: yes").body == {
        "Version": "2012-10-17",
        "Mode": "0755",
        "Port": 2049,
        "On": True,
    }


def test_lines_are_kept() -> None:
    document = read(
        "Resources:\n  Queue:\n    Type: AWS::SQS::Queue\n    Properties:\n      DelaySeconds: 5\n"
    )

    assert document.line("Resources", "Queue", "Properties", "DelaySeconds") == 5
    assert document.line("Resources", "Queue", "Properties", "Nothing") == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Template format error: unsupported structure."),
        ("- a", "Template format error: unsupported structure."),
        ("a: [", "Template format error: YAML not well-formed. (line 2, column 1)"),
        ('{"a": 1, "a": 2}', "Template format error: JSON not well-formed. The key 'a' is given twice."),
        (
            "a: 1\nb: 2\na: 3",
            "Template format error: YAML not well-formed. (line 3, column 1) The key 'a' is given twice, first at "
            "line 1.",
        ),
        ("a: &x 1\nb: *x", "Template error: YAML aliases are not allowed in CloudFormation templates"),
        ("Resources: {}", "Template format error: At least one Resources member must be defined."),
        (f"Foo: 1\n{QUEUE}", "Invalid template property or properties [Foo]"),
        (
            "Resources: {Q: {Properties: {}}}",
            "Template format error: [/Resources/Q] Every Resources object must contain a Type member.",
        ),
        (
            "Resources: {my-q: {Type: 'AWS::SQS::Queue'}}",
            "Template format error: Resource name my-q is non alphanumeric.",
        ),
        ("Resources: {Q: {Type: 'AWS::SQS::Queue', Foo: 1}}", "Invalid template resource property 'Foo'"),
        (
            "Resources: {Q: {Type: 'AWS::SQS::Queue', Properties: {QueueName: !Ref Lost}}}",
            "Template format error: Unresolved resource dependencies [Lost] in the Resources block of the template",
        ),
        (
            f"{QUEUE}\nOutputs: {{O: {{Value: !Ref Lost}}}}",
            "Template format error: Unresolved resource dependencies [Lost] in the Outputs block of the template",
        ),
        (
            "Resources: {Q: {Type: 'AWS::SQS::Queue', Properties: {QueueName: !GetAtt Lost.Arn}}}",
            "Template error: instance of Fn::GetAtt references undefined resource Lost",
        ),
        (
            "Resources: {Q: {Type: 'AWS::SQS::Queue', DeletionPolicy: Keep}}",
            "Template format error: Unrecognized DeletionPolicy Keep",
        ),
        (
            "Resources: {F: {Type: 'AWS::Lambda::Funktion'}}",
            "Template format error: Unrecognized resource types: [AWS::Lambda::Funktion] There is no "
            "AWS::Lambda::Funktion in AWS; near: AWS::Lambda::Function",
        ),
    ],
)
def test_a_fault_is_told_in_aws_words(text: str, message: str) -> None:
    assert fault(text).startswith(message)


def test_a_type_of_aws_that_is_not_here_is_named_as_such() -> None:
    assert "AWS::RDS::DBInstance is a type of AWS that Lambay does not have." in fault(
        "Resources: {D: {Type: 'AWS::RDS::DBInstance'}}"
    )


def test_a_snapshot_of_what_has_none_is_refused() -> None:
    made = parse(read("Resources: {F: {Type: 'AWS::EFS::FileSystem', DeletionPolicy: Snapshot}}"))

    with pytest.raises(
        AWSError, match="resource type AWS::EFS::FileSystem does not support deletion policy Snapshot"
    ):
        planning.check_policies(made)


def test_security_groups_that_refer_to_each_other_are_a_circle() -> None:
    message = fault(
        """
        Resources:
          LambdaSecurityGroup:
            Type: AWS::EC2::SecurityGroup
            Properties:
              GroupDescription: Lambda security group
              SecurityGroupEgress:
                - {IpProtocol: tcp, FromPort: 2049, ToPort: 2049, DestinationSecurityGroupId: !Ref EFSSecurityGroup}
          EFSSecurityGroup:
            Type: AWS::EC2::SecurityGroup
            Properties:
              GroupDescription: EFS security group
              SecurityGroupIngress:
                - {IpProtocol: tcp, FromPort: 2049, ToPort: 2049, SourceSecurityGroupId: !Ref LambdaSecurityGroup}
          Waiting: {Type: AWS::SQS::Queue, DependsOn: EFSSecurityGroup}
        """
    )

    assert message == "Circular dependency between resources: [EFSSecurityGroup, LambdaSecurityGroup]"


names = [f"R{number}" for number in range(8)]


@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda pair: pair[0] < pair[1]), max_size=20
    )
)
def test_everything_comes_after_what_it_waits_for(pairs: list[tuple[int, int]]) -> None:
    waits = {name: frozenset(names[one] for one, other in pairs if names[other] == name) for name in names}

    ordered = graph.order(waits)

    assert sorted(ordered) == names
    assert all(ordered.index(need) < ordered.index(name) for name in names for need in waits[name])


@given(st.lists(st.integers(0, 7), min_size=2, max_size=8, unique=True), st.integers(0, 7))
def test_every_circle_is_found(ring: list[int], waiting: int) -> None:
    waits = {name: set[str]() for name in names}
    for one, other in zip(ring, [*ring[1:], ring[0]], strict=True):
        waits[names[one]].add(names[other])
    if waiting not in ring:
        waits[names[waiting]].add(names[ring[0]])

    with pytest.raises(AWSError) as refused:
        graph.order({name: frozenset(needs) for name, needs in waits.items()})

    circle = ", ".join(sorted(names[number] for number in ring))
    assert refused.value.message == f"Circular dependency between resources: [{circle}]"


def test_what_a_template_needs_acknowledged() -> None:
    role = "Resources: {R: {Type: 'AWS::IAM::Role', Properties: {AssumeRolePolicyDocument: {}%s}}}"

    assert capabilities(parse(read(role % "")))[0] == ("CAPABILITY_IAM",)
    assert capabilities(parse(read(role % ", RoleName: x")))[0] == ("CAPABILITY_NAMED_IAM",)
    assert capabilities(parse(read(QUEUE)))[0] == ()


def declared(**body: Any) -> dict[str, parameters.Parameter]:
    return parameters.declared({"P": {"Type": "String", **body}})


@pytest.mark.parametrize(
    ("body", "value", "message"),
    [
        ({"AllowedValues": ["a", "b"]}, "c", "Parameter 'P' must be one of AllowedValues: [a, b]"),
        ({"AllowedPattern": "[a-z]+"}, "A", "Parameter 'P' must match pattern [a-z]+"),
        ({"MinLength": 3}, "ab", "Parameter 'P' must contain at least 3 characters"),
        ({"MaxLength": "1"}, "ab", "Parameter 'P' must contain at most 1 characters"),
        ({"Type": "Number", "MinValue": 5}, "4", "Parameter 'P' must be a number not less than 5"),
        ({"Type": "Number", "MaxValue": 5}, "6", "Parameter 'P' must be a number not greater than 5"),
        ({"Type": "Number"}, "six", "Parameter 'P' must be a number."),
        (
            {"AllowedValues": ["a"], "ConstraintDescription": "only a"},
            "c",
            "Parameter 'P' failed to satisfy constraint: only a",
        ),
    ],
)
def test_a_parameter_that_breaks_its_constraint(body: dict[str, Any], value: str, message: str) -> None:
    with pytest.raises(AWSError) as refused:
        parameters.given(declared(**body), [{"ParameterKey": "P", "ParameterValue": value}], None)

    assert refused.value.message == message


def test_parameters_that_are_missing_or_too_many() -> None:
    with pytest.raises(AWSError, match=r"Parameters: \[P\] must have values"):
        parameters.given(declared(), [], None)
    with pytest.raises(AWSError, match=r"Parameters: \[Q\] do not exist in the template"):
        parameters.given(declared(Default="x"), [{"ParameterKey": "Q", "ParameterValue": "1"}], None)


def test_a_parameter_keeps_its_previous_value_where_asked() -> None:
    kept = parameters.given(
        declared(Default="x"), [{"ParameterKey": "P", "UsePreviousValue": True}], {"P": "before"}
    )

    assert kept == {"P": "before"}


def test_lists_are_split() -> None:
    made = parameters.declared({"L": {"Type": "CommaDelimitedList", "Default": "a, b"}})["L"]

    assert made.value("a, b") == ["a", "b"]


def test_loops_are_unrolled() -> None:
    body = {
        "Fn::ForEach::Queues": [
            "Name",
            {"Ref": "Names"},
            {"Queue&{Name}": {"Properties": {"QueueName": {"Fn::Sub": "${Name}-x"}, "Ref": {"Ref": "Name"}}}},
        ]
    }

    made = loops.unroll(body, Names(refs={"Names": ["a.b", "c"]}))

    assert json.loads(json.dumps(made)) == {
        "Queueab": {"Properties": {"QueueName": {"Fn::Sub": "a.b-x"}, "Ref": "a.b"}},
        "Queuec": {"Properties": {"QueueName": {"Fn::Sub": "c-x"}, "Ref": "c"}},
    }
