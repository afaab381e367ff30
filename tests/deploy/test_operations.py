"""What may happen to a stack on its way: replacement, roles, cancelling, continuing, alarms, snippets."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from tests.deploy.arrange import CAPABILITIES, Cloud, answering, unique
from tests.deploy.test_stacks import QUEUE, message

FILES = """
Parameters: {Path: {Type: String, Default: /one}, Policy: {Type: String, Default: Delete}}
Resources:
  Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}
  SubnetA:
    Type: AWS::EC2::Subnet
    Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.0.0/24, AvailabilityZone: !Select [0, !GetAZs '']}
  SubnetB:
    Type: AWS::EC2::Subnet
    Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.1.0/24, AvailabilityZone: !Select [1, !GetAZs '']}
  Files: {Type: AWS::EFS::FileSystem}
  TargetA:
    Type: AWS::EFS::MountTarget
    Properties: {FileSystemId: !Ref Files, SubnetId: !Ref SubnetA, SecurityGroups: []}
  Point:
    Type: AWS::EFS::AccessPoint
    UpdateReplacePolicy: Delete
    Properties:
      FileSystemId: !Ref Files
      PosixUser: {Uid: '1000', Gid: '1000'}
      RootDirectory: {Path: !Ref Path, CreationInfo: {OwnerUid: '1000', OwnerGid: '1000', Permissions: 755}}
"""
WAITING = """
  Handle: {Type: AWS::CloudFormation::WaitConditionHandle}
  Wait: {Type: AWS::CloudFormation::WaitCondition, Properties: {Handle: !Ref Handle, Timeout: 43200}}
"""
BARE_QUEUE = """
Parameters: {Delay: {Type: Number, Default: '5'}}
Resources:
  Queue: {Type: AWS::SQS::Queue, Properties: {DelaySeconds: !Ref Delay}}
"""


def points(cloud: Cloud, file_system: str) -> dict[str, dict[str, object]]:
    found = cloud.efs.describe_access_points(FileSystemId=file_system)["AccessPoints"]
    return {one["AccessPointId"]: one for one in found}


def test_an_update_adds_a_mount_target_and_replaces_an_access_point(cloud: Cloud) -> None:
    stack = cloud.create(FILES)
    assert stack.status == "CREATE_COMPLETE", stack.failures()
    files, old = stack.resources["Files"], stack.resources["Point"]
    assert points(cloud, files)[old]["PosixUser"] == {"Uid": 1000, "Gid": 1000}

    more = (
        FILES
        + """
  TargetB:
    Type: AWS::EFS::MountTarget
    Properties: {FileSystemId: !Ref Files, SubnetId: !Ref SubnetB, SecurityGroups: []}
"""
    )
    assert stack.update(more) == "UPDATE_COMPLETE", stack.failures()
    targets = cloud.efs.describe_mount_targets(FileSystemId=files)["MountTargets"]
    assert {one["MountTargetId"] for one in targets} == {
        stack.resources["TargetA"],
        stack.resources["TargetB"],
    }

    assert stack.update(more, Path="/two") == "UPDATE_COMPLETE", stack.failures()
    assert list(points(cloud, files)) == [stack.resources["Point"]] != [old]

    kept = stack.resources["Point"]
    retaining = more.replace("UpdateReplacePolicy: Delete", "UpdateReplacePolicy: Retain")
    assert stack.update(retaining, Path="/three") == "UPDATE_COMPLETE", stack.failures()
    assert set(points(cloud, files)) == {kept, stack.resources["Point"]}
    cloud.efs.delete_access_point(AccessPointId=kept)
    assert stack.delete() == "DELETE_COMPLETE", stack.failures()


def test_a_stacks_role_is_who_makes_its_resources(cloud: Cloud) -> None:
    trust = {
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "cloudformation.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ]
    }
    name = unique("deployer")
    role = cloud.iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    allowed = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}],
    }
    cloud.iam.put_role_policy(RoleName=name, PolicyName="queues", PolicyDocument=json.dumps(allowed))

    queues = cloud.create(QUEUE, RoleARN=role)
    assert queues.status == "CREATE_COMPLETE", queues.failures()
    notes = cloud.create(
        "Resources: {Note: {Type: AWS::SSM::Parameter, Properties: {Type: String, Value: x}}}", RoleARN=role
    )
    assert notes.status == "ROLLBACK_COMPLETE"

    assert (
        f"{name}/AWSCloudFormation is not authorized to perform: ssm:PutParameter" in notes.failures()[0][2]
    )
    assert cloud.formation.describe_stacks(StackName=queues.arn)["Stacks"][0]["RoleARN"] == role
    assert queues.delete() == "DELETE_COMPLETE"


def test_an_update_that_is_cancelled_rolls_back(cloud: Cloud) -> None:
    stack = cloud.create(BARE_QUEUE)
    assert stack.status == "CREATE_COMPLETE"
    with pytest.raises(ClientError, match="CancelUpdateStack cannot be called from current stack status"):
        cloud.formation.cancel_update_stack(StackName=stack.name)
    cloud.formation.update_stack(StackName=stack.name, TemplateBody=BARE_QUEUE + WAITING)
    while "Wait" not in stack.resources:
        pass

    cloud.formation.cancel_update_stack(StackName=stack.name)

    assert stack.status == "UPDATE_ROLLBACK_COMPLETE", stack.failures()
    assert list(stack.resources) == ["Queue"]
    assert ("Wait", "CREATE_FAILED", "Resource creation cancelled") in stack.failures()
    stack.delete()


def test_a_failure_ends_the_waiting_of_others(cloud: Cloud) -> None:
    name = unique("group")
    stack = cloud.create(f"""
Resources:
  First: {{Type: AWS::Logs::LogGroup, Properties: {{LogGroupName: {name}}}}}
  Second: {{Type: AWS::Logs::LogGroup, DependsOn: First, Properties: {{LogGroupName: {name}}}}}{WAITING}""")

    assert stack.status == "ROLLBACK_COMPLETE", stack.failures()
    assert ("Wait", "CREATE_FAILED", "Resource creation cancelled") in stack.failures()


STUBBORN = """
Parameters: {Fail: {Type: String, Default: Update}, Retention: {Type: Number, Default: 7}}
Resources:""" + answering("""
    import cfnresponse, json
    def handler(event, context):
        event = json.loads(event['Records'][0]['Sns']['Message']) if 'Records' in event else event
        good = event['ResourceProperties'].get('Fail') != event['RequestType']
        cfnresponse.send(event, context, cfnresponse.SUCCESS if good else cfnresponse.FAILED, {}, 'thing')
""")
THING = """
  Thing: {Type: Custom::Thing, Properties: {ServiceToken: !GetAtt Answering.Arn, Fail: !Ref Fail}}
  Group: {Type: AWS::Logs::LogGroup, DependsOn: Thing, Properties: {RetentionInDays: !Ref Retention}}
"""


def test_a_rollback_that_fails_can_be_continued_without_what_is_stuck(cloud: Cloud) -> None:
    stack = cloud.create(STUBBORN + THING)
    assert stack.status == "CREATE_COMPLETE", stack.failures()
    # The retention fails, and the thing cannot be changed back.
    assert stack.update(STUBBORN + THING, Fail="Never", Retention="2") == "UPDATE_ROLLBACK_FAILED"

    cloud.formation.continue_update_rollback(StackName=stack.name)
    assert stack.status == "UPDATE_ROLLBACK_FAILED"
    with pytest.raises(ClientError, match="Role"):
        cloud.formation.continue_update_rollback(StackName=stack.name, ResourcesToSkip=["Role"])
    cloud.formation.continue_update_rollback(StackName=stack.name, ResourcesToSkip=["Thing"])

    assert stack.status == "UPDATE_ROLLBACK_COMPLETE", stack.failures()
    assert stack.delete() == "DELETE_COMPLETE", stack.failures()


def test_a_topic_makes_a_custom_resource(cloud: Cloud) -> None:
    stack = cloud.create(
        STUBBORN
        + """
  Topic: {Type: AWS::SNS::Topic}
  Subscription:
    Type: AWS::SNS::Subscription
    Properties: {TopicArn: !Ref Topic, Protocol: lambda, Endpoint: !GetAtt Answering.Arn}
  Permission:
    Type: AWS::Lambda::Permission
    Properties:
      FunctionName: !Ref Answering
      Action: lambda:InvokeFunction
      Principal: sns.amazonaws.com
      SourceArn: !Ref Topic
  Thing: {Type: Custom::Thing, DependsOn: [Subscription, Permission], Properties: {ServiceToken: !Ref Topic}}
"""
    )

    assert stack.status == "CREATE_COMPLETE", stack.failures()
    assert stack.resources["Thing"] == "thing"
    assert stack.delete() == "DELETE_COMPLETE", stack.failures()


def test_an_alarm_that_goes_off_meanwhile_rolls_back(cloud: Cloud) -> None:
    watch, name = cloud.server.boto("cloudwatch"), unique("alarm")
    watch.put_metric_alarm(
        AlarmName=name,
        Namespace="files",
        MetricName="errors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    arn = watch.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["AlarmArn"]
    rolling = {"RollbackTriggers": [{"Arn": arn, "Type": "AWS::CloudWatch::Alarm"}]}
    stack = cloud.create(BARE_QUEUE + WAITING, RollbackConfiguration=rolling)
    while "Wait" not in stack.resources:
        pass

    watch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a test")

    assert stack.status == "ROLLBACK_COMPLETE", stack.failures()
    assert any(name in reason for _, _, reason in stack.events())
    watch.delete_alarms(AlarmNames=[name])


def test_snippets_are_included_from_s3(cloud: Cloud) -> None:
    s3, bucket = cloud.server.boto("s3"), unique("snippets")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(
        Bucket=bucket, Key="queue.yaml", Body=b"Type: AWS::SQS::Queue\nProperties: {DelaySeconds: '9'}\n"
    )
    stack = cloud.create(f"""
Resources:
  Queue: {{'Fn::Transform': {{Name: 'AWS::Include', Parameters: {{Location: 's3://{bucket}/queue.yaml'}}}}}}
""")

    assert stack.status == "CREATE_COMPLETE", stack.failures()
    found = cloud.server.boto("sqs").get_queue_attributes(
        QueueUrl=stack.resources["Queue"], AttributeNames=["DelaySeconds"]
    )
    assert found["Attributes"] == {"DelaySeconds": "9"}
    stack.delete()


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            """
Resources:
  One:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: one
      SecurityGroupIngress: [{IpProtocol: tcp, FromPort: 1, ToPort: 1, SourceSecurityGroupId: !Ref Two}]
  Two:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: two
      SecurityGroupIngress: [{IpProtocol: tcp, FromPort: 1, ToPort: 1, SourceSecurityGroupId: !Ref One}]
""",
            "Circular dependency between resources: [One, Two]",
        ),
        (
            "Resources: {Files: {Type: AWS::EFS::Filesystem}}",
            "Template format error: Unrecognized resource types: [AWS::EFS::Filesystem]"
            " There is no AWS::EFS::Filesystem in AWS; near: AWS::EFS::FileSystem",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(cloud: Cloud, template: str, said: str) -> None:
    with pytest.raises(ClientError) as refused:
        cloud.formation.create_stack(
            StackName=unique("stack"), TemplateBody=template, Capabilities=CAPABILITIES
        )

    assert message(refused).startswith(said)


def test_topics_are_told_a_stacks_events(cloud: Cloud) -> None:
    topics, queues, name = cloud.server.boto("sns"), cloud.server.boto("sqs"), unique("events")
    url = queues.create_queue(QueueName=name)["QueueUrl"]
    queue = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = topics.create_topic(Name=name)["TopicArn"]
    topics.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)

    stack = cloud.create(BARE_QUEUE, NotificationARNs=[topic])

    assert stack.status == "CREATE_COMPLETE"
    told: list[str] = []
    while "CREATE_COMPLETE AWS::CloudFormation::Stack" not in told:
        got = queues.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for one in got.get("Messages", []):
            lines = json.loads(one["Body"])["Message"].splitlines()
            said = dict(line.split("=", 1) for line in lines)
            assert said["StackId"] == f"'{stack.arn}'"
            told.append(f"{said['ResourceStatus'][1:-1]} {said['ResourceType'][1:-1]}")
            queues.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
    assert "CREATE_COMPLETE AWS::SQS::Queue" in told
    stack.delete()


def test_a_creation_policy_waits_for_its_signals(cloud: Cloud) -> None:
    stack = cloud.create("""
Resources:
  Wait: {Type: AWS::CloudFormation::WaitCondition, CreationPolicy: {ResourceSignal: {Count: 2, Timeout: PT10M}}}
""")
    while "Wait" not in stack.resources:
        pass
    for one in ("a", "b"):
        cloud.formation.signal_resource(
            StackName=stack.name, LogicalResourceId="Wait", UniqueId=one, Status="SUCCESS"
        )

    assert stack.status == "CREATE_COMPLETE", stack.failures()
    assert stack.delete() == "DELETE_COMPLETE"


RULES = """
Parameters:
  Subnets: {Type: 'List<AWS::EC2::Subnet::Id>'}
  Vpc: {Type: 'AWS::EC2::VPC::Id'}
Rules:
  SameVpc:
    Assertions:
    - Assert:
        'Fn::EachMemberIn': [{'Fn::ValueOfAll': ['AWS::EC2::Subnet::Id', VpcId]}, {'Fn::RefAll': 'AWS::EC2::VPC::Id'}]
    - Assert: {'Fn::EachMemberEquals': [{'Fn::ValueOf': [Subnets, VpcId]}, !Ref Vpc]}
      AssertDescription: all subnets must be in the VPC
    - Assert: {'Fn::Equals': [{'Fn::ValueOf': [Vpc, Tags.Team]}, files]}
      AssertDescription: the VPC must be the team's
Resources: {Queue: {Type: AWS::SQS::Queue}}
"""


def test_rules_ask_what_the_parameters_name(cloud: Cloud) -> None:
    tags = [{"ResourceType": "vpc", "Tags": [{"Key": "Team", "Value": "files"}]}]
    vpcs = [
        cloud.ec2.create_vpc(CidrBlock="10.0.0.0/16", TagSpecifications=tags)["Vpc"]["VpcId"]
        for _ in range(2)
    ]
    subnets = [
        cloud.ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"] for vpc in vpcs
    ]

    stack = cloud.create(RULES, parameters={"Subnets": subnets[0], "Vpc": vpcs[0]})
    assert stack.status == "CREATE_COMPLETE", stack.failures()
    with pytest.raises(ClientError, match="all subnets must be in the VPC"):
        cloud.create(RULES, parameters={"Subnets": ",".join(subnets), "Vpc": vpcs[0]})
    cloud.ec2.delete_tags(Resources=[vpcs[0]], Tags=[{"Key": "Team"}])
    with pytest.raises(ClientError, match="the VPC must be the team's"):
        cloud.create(RULES, parameters={"Subnets": subnets[0], "Vpc": vpcs[0]})

    stack.delete()
    for subnet in subnets:
        cloud.ec2.delete_subnet(SubnetId=subnet)
    for vpc in vpcs:
        cloud.ec2.delete_vpc(VpcId=vpc)
