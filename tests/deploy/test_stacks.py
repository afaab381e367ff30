"""Stacks from outside: the guides' system made, used, changed, rolled back and taken away."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.deploy.arrange import CAPABILITIES, Cloud, answering, unique

QUEUE = """
Parameters: {Delay: {Type: Number, Default: '5'}}
Resources:
  Queue: {Type: AWS::SQS::Queue, Properties: {DelaySeconds: !Ref Delay}}
Outputs: {Arn: {Value: !GetAtt Queue.Arn}}
"""


def message(refused: pytest.ExceptionInfo[ClientError]) -> str:
    return str(refused.value.response["Error"]["Message"])


def test_the_guides_system_lives_its_whole_life(cloud: Cloud, template: str) -> None:
    before = vestiges(cloud)
    stack = cloud.create(template, Tags=[{"Key": "team", "Value": "files"}])

    assert stack.status == "CREATE_COMPLETE", stack.failures()
    assert stack.invoke("Writer", {"text": "shared"}) == "256"
    assert stack.invoke("Reader") == "shared"
    files = cloud.efs.describe_file_systems(FileSystemId=stack.resources["EFSFileSystem"])["FileSystems"][0]
    assert {"Key": "team", "Value": "files"} in files["Tags"]
    point = cloud.efs.describe_access_points(AccessPointId=stack.resources["EFSAccessPoint"])["AccessPoints"][
        0
    ]
    assert point["PosixUser"] == {"Uid": 1000, "Gid": 1000}

    # In place: the function's memory and the file system's throughput.
    assert stack.update(Memory="512", Mode="bursting") == "UPDATE_COMPLETE", stack.failures()
    assert stack.invoke("Writer", {"text": "again"}) == "512"

    # An access point cannot change: another takes its place, and the functions follow.
    old = stack.resources["EFSAccessPoint"]
    elsewhere = template.replace("Path: /lambda", "Path: /elsewhere")
    assert stack.update(elsewhere) == "UPDATE_COMPLETE", stack.failures()
    assert stack.resources["EFSAccessPoint"] != old
    stack.invoke("Writer", {"text": "elsewhere"})
    assert stack.invoke("Reader") == "elsewhere"
    with pytest.raises(ClientError):
        cloud.efs.describe_access_points(AccessPointId=old)

    # A failure on the way: everything is as it was.
    kept = stack.resources
    broken = elsewhere.replace("Path: /elsewhere", "Path: /third").replace("Timeout: 30", "Timeout: 9000", 1)
    assert stack.update(broken) == "UPDATE_ROLLBACK_COMPLETE"
    assert stack.resources == kept
    assert stack.invoke("Reader") == "elsewhere"
    assert any(name == "Writer" and status == "UPDATE_FAILED" for name, status, _ in stack.failures())

    assert stack.delete() == "DELETE_COMPLETE", stack.failures()
    assert vestiges(cloud) == before


def vestiges(cloud: Cloud) -> dict[str, Any]:
    """What there is of everything that the template makes."""
    ec2 = cloud.ec2
    return {
        "vpcs": [one["VpcId"] for one in ec2.describe_vpcs()["Vpcs"]],
        "subnets": sorted(one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]),
        "groups": sorted(one["GroupId"] for one in ec2.describe_security_groups()["SecurityGroups"]),
        "addresses": [one["PublicIp"] for one in ec2.describe_addresses()["Addresses"]],
        "gateways": [
            one["InternetGatewayId"] for one in ec2.describe_internet_gateways()["InternetGateways"]
        ],
        "interfaces": [
            one["NetworkInterfaceId"] for one in ec2.describe_network_interfaces()["NetworkInterfaces"]
        ],
        "file systems": [one["FileSystemId"] for one in cloud.efs.describe_file_systems()["FileSystems"]],
        "functions": [one["FunctionName"] for one in cloud.lambda_.list_functions()["Functions"]],
        "roles": [one["RoleName"] for one in cloud.iam.list_roles()["Roles"]],
    }


def test_a_creation_that_fails_leaves_nothing(cloud: Cloud, template: str) -> None:
    before = vestiges(cloud)

    stack = cloud.create(
        template.replace("Handler: index.handler", "Handler: index.handler\n      Layers: [x]", 1)
    )

    assert stack.status == "ROLLBACK_COMPLETE"
    assert vestiges(cloud) == before
    assert stack.resources == {}


def test_a_function_that_does_not_wait_for_its_mount_targets_is_told_what_to_do(
    cloud: Cloud, template: str
) -> None:
    """EFS's well-known trap: it works or fails by the order of things; here the mount targets certainly come later."""
    late = template.replace(
        "    DependsOn: [EFSMountTarget1, EFSMountTarget2, PrivateAssociation1, PrivateAssociation2]\n", ""
    )
    late = late.replace("    DependsOn: [EFSMountTarget1, EFSMountTarget2]\n", "")
    late = late.replace(
        "    Type: AWS::EFS::MountTarget\n", "    Type: AWS::EFS::MountTarget\n    DependsOn: Writer\n"
    )

    stack = cloud.create(late)

    assert stack.status == "ROLLBACK_COMPLETE"
    reasons = [reason for name, _, reason in stack.failures() if name in ("Writer", "Reader")]
    assert any("DependsOn: [EFSMountTarget1, EFSMountTarget2]" in reason for reason in reasons), reasons


def test_change_sets_show_what_they_do(cloud: Cloud) -> None:
    formation, name = cloud.formation, unique("stack")
    made = formation.create_change_set(
        StackName=name,
        ChangeSetName="first",
        ChangeSetType="CREATE",
        TemplateBody=QUEUE,
        Capabilities=CAPABILITIES,
    )
    assert formation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "REVIEW_IN_PROGRESS"
    changes = formation.describe_change_set(ChangeSetName=made["Id"])["Changes"]
    assert [
        (one["ResourceChange"]["Action"], one["ResourceChange"]["LogicalResourceId"]) for one in changes
    ] == [("Add", "Queue")]
    formation.execute_change_set(ChangeSetName=made["Id"])
    assert cloud.ended(made["StackId"])["StackStatus"] == "CREATE_COMPLETE"

    formation.create_change_set(StackName=name, ChangeSetName="same", UsePreviousTemplate=True)
    same = formation.describe_change_set(StackName=name, ChangeSetName="same")
    assert (same["Status"], same["ExecutionStatus"]) == ("FAILED", "UNAVAILABLE")
    assert same["StatusReason"].startswith("The submitted information didn't contain changes.")

    changed = QUEUE.replace("DelaySeconds: !Ref Delay", "DelaySeconds: 9, QueueName: another")
    formation.create_change_set(StackName=name, ChangeSetName="other", TemplateBody=changed)
    change = formation.describe_change_set(StackName=name, ChangeSetName="other")["Changes"][0][
        "ResourceChange"
    ]
    assert (change["Action"], change["Replacement"]) == ("Modify", "True")
    recreation = {one["Target"]["Name"]: one["Target"]["RequiresRecreation"] for one in change["Details"]}
    assert recreation == {"DelaySeconds": "Never", "QueueName": "Always"}
    formation.delete_stack(StackName=name)


def test_an_update_without_changes_is_refused(cloud: Cloud) -> None:
    stack = cloud.create(QUEUE)
    assert stack.status == "CREATE_COMPLETE"

    with pytest.raises(ClientError) as refused:
        cloud.formation.update_stack(StackName=stack.name, UsePreviousTemplate=True)

    assert message(refused) == "No updates are to be performed."
    stack.delete()


def test_names_capabilities_and_protection(cloud: Cloud, template: str) -> None:
    formation = cloud.formation
    stack = cloud.create(QUEUE, EnableTerminationProtection=True)
    assert stack.status == "CREATE_COMPLETE"

    with pytest.raises(ClientError, match="AlreadyExistsException"):
        formation.create_stack(StackName=stack.name, TemplateBody=QUEUE)
    with pytest.raises(ClientError) as refused:
        formation.delete_stack(StackName=stack.name)
    assert (
        message(refused) == f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled"
    )
    with pytest.raises(ClientError) as refused:
        formation.create_stack(
            StackName=unique("stack"), TemplateBody=template.replace("RUNTIME", "python3.11")
        )
    assert refused.value.response["Error"]["Code"] == "InsufficientCapabilitiesException"
    assert message(refused) == "Requires capabilities : [CAPABILITY_IAM]"
    with pytest.raises(ClientError) as refused:
        formation.describe_stacks(StackName="nobody")
    assert message(refused) == "Stack with id nobody does not exist"
    formation.update_termination_protection(StackName=stack.name, EnableTerminationProtection=False)
    assert stack.delete() == "DELETE_COMPLETE"


def test_an_export_in_use_stays(cloud: Cloud) -> None:
    export = unique("export")
    maker = cloud.create(f"""
Resources: {{Queue: {{Type: AWS::SQS::Queue}}}}
Outputs: {{Name: {{Value: !GetAtt Queue.QueueName, Export: {{Name: {export}}}}}}}
""")
    assert maker.status == "CREATE_COMPLETE"
    user = cloud.create(f"""
Resources: {{Note: {{Type: AWS::SSM::Parameter, Properties: {{Type: String, Value: !ImportValue {export}}}}}}}
""")
    assert user.status == "CREATE_COMPLETE", user.failures()

    assert cloud.formation.list_imports(ExportName=export)["Imports"] == [user.name]
    with pytest.raises(ClientError) as refused:
        cloud.formation.delete_stack(StackName=maker.name)
    assert message(refused) == f"Export {export} cannot be deleted as it is in use by {user.name}"
    assert (user.delete(), maker.delete()) == ("DELETE_COMPLETE", "DELETE_COMPLETE")


def test_what_is_to_be_retained_stays(cloud: Cloud) -> None:
    stack = cloud.create(
        QUEUE.replace("Type: AWS::SQS::Queue,", "Type: AWS::SQS::Queue, DeletionPolicy: Retain,")
    )
    assert stack.status == "CREATE_COMPLETE"
    url = stack.resources["Queue"]

    assert stack.delete() == "DELETE_COMPLETE"

    assert ("Queue", "DELETE_SKIPPED", "") in stack.events()
    queues = cloud.server.boto("sqs")
    assert queues.get_queue_attributes(QueueUrl=url, AttributeNames=["DelaySeconds"])["Attributes"] == {
        "DelaySeconds": "5"
    }
    queues.delete_queue(QueueUrl=url)


def test_a_stack_policy_keeps_a_resource_from_changes(cloud: Cloud) -> None:
    policy = {
        "Statement": [
            {"Effect": "Deny", "Action": "Update:*", "Principal": "*", "Resource": "LogicalResourceId/Queue"}
        ]
    }
    stack = cloud.create(QUEUE, StackPolicyBody=json.dumps(policy))
    assert stack.status == "CREATE_COMPLETE"

    assert stack.update(Delay="9") == "UPDATE_ROLLBACK_COMPLETE"

    assert "does not allow [Update:Modify]" in stack.failures()[-1][2]
    stack.delete()


def test_stacks_within_stacks(cloud: Cloud) -> None:
    s3 = cloud.server.boto("s3")
    bucket = unique("templates")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="queue.yaml", Body=QUEUE.encode())
    outer = f"""
Resources:
  Inner:
    Type: AWS::CloudFormation::Stack
    Properties: {{TemplateURL: 'https://{bucket}.s3.amazonaws.com/queue.yaml', Parameters: {{Delay: 7}}}}
Outputs: {{Arn: {{Value: !GetAtt Inner.Outputs.Arn}}}}
"""

    stack = cloud.create(outer)

    assert stack.status == "CREATE_COMPLETE", stack.failures()
    assert stack.outputs["Arn"].startswith("arn:aws:sqs:")
    inner = cloud.formation.describe_stacks(StackName=stack.resources["Inner"])["Stacks"][0]
    assert (inner["ParentId"], inner["RootId"]) == (stack.arn, stack.arn)
    assert stack.delete() == "DELETE_COMPLETE"
    assert cloud.ended(inner["StackId"])["StackStatus"] == "DELETE_COMPLETE"


FUNCTION = answering("""
    import cfnresponse
    def handler(event, context):
        properties = event['ResourceProperties']
        good = properties.get('Fail') != event['RequestType']
        cfnresponse.send(event, context, cfnresponse.SUCCESS if good else cfnresponse.FAILED,
                         {'Answer': properties['Number'] + event['RequestType']}, 'thing-' + properties['Number'])
""")


def test_a_function_makes_a_custom_resource(cloud: Cloud) -> None:
    template = f"""
Parameters: {{Number: {{Type: Number, Default: 1}}}}
Resources:{FUNCTION}
  Thing: {{Type: Custom::Thing, Properties: {{ServiceToken: !GetAtt Answering.Arn, Number: !Ref Number, Flag: true}}}}
Outputs: {{Answer: {{Value: !GetAtt Thing.Answer}}}}
"""
    stack = cloud.create(template)
    assert stack.status == "CREATE_COMPLETE", stack.failures()
    assert stack.outputs == {"Answer": "1Create"}

    assert stack.update(Number="2") == "UPDATE_COMPLETE", stack.failures()

    # It answered with another id: the old thing was asked to go.
    assert stack.outputs == {"Answer": "2Update"}
    assert stack.resources["Thing"] == "thing-2"
    assert stack.delete() == "DELETE_COMPLETE", stack.failures()


def test_a_custom_resource_that_fails_says_why(cloud: Cloud) -> None:
    stack = cloud.create(f"""
Resources:{FUNCTION}
  Thing:
    Type: AWS::CloudFormation::CustomResource
    Properties: {{ServiceToken: !GetAtt Answering.Arn, Number: 1, Fail: Create}}
""")

    assert stack.status == "ROLLBACK_COMPLETE"
    assert "Received response status [FAILED] from custom resource." in stack.failures()[0][2]


def test_a_wait_condition_waits_for_a_signal(cloud: Cloud) -> None:
    stack = cloud.create("""
Resources:
  Handle: {Type: AWS::CloudFormation::WaitConditionHandle}
  Wait: {Type: AWS::CloudFormation::WaitCondition, Properties: {Handle: !Ref Handle, Timeout: 600}}
Outputs: {Told: {Value: !GetAtt Wait.Data}}
""")
    while "Wait" not in stack.resources:
        pass
    cloud.formation.signal_resource(
        StackName=stack.name, LogicalResourceId="Handle", UniqueId="one", Status="SUCCESS"
    )

    assert stack.status == "CREATE_COMPLETE", stack.failures()
    assert json.loads(stack.outputs["Told"]) == {"one": ""}
    stack.delete()


def test_spellings_that_circulate_are_accepted_with_a_warning(cloud: Cloud) -> None:
    stack = cloud.create("""
Resources:
  Files: {Type: AWS::EFS::FileSystem, Properties: {LifecyclePolicy: [{TransitionToIA: AFTER_30_DAYS}]}}
""")

    assert stack.status == "CREATE_COMPLETE", stack.failures()
    assert any("AWS's spelling" in reason for _, _, reason in stack.events())
    policies = cloud.efs.describe_lifecycle_configuration(FileSystemId=stack.resources["Files"])[
        "LifecyclePolicies"
    ]
    assert policies == [{"TransitionToIA": "AFTER_30_DAYS"}]
    stack.delete()


def test_serverless_templates_are_transformed(cloud: Cloud) -> None:
    stack = cloud.create("""
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {Timeout: 20, Runtime: RUNTIME}}
Resources:
  Hello:
    Type: AWS::Serverless::Function
    Properties:
      Handler: index.handler
      InlineCode: |
        def handler(event, context):
            return context.function_version
      AutoPublishAlias: live
      Policies: [AWSLambdaBasicExecutionRole, {S3ReadPolicy: {BucketName: some-bucket}}]
      FunctionUrlConfig: {AuthType: NONE}
      Events: {Daily: {Type: Schedule, Properties: {Schedule: rate(1 day)}}}
Outputs: {Url: {Value: !GetAtt HelloUrl.FunctionUrl}}
""")

    assert stack.status == "CREATE_COMPLETE", stack.failures()
    assert stack.outputs["Url"].startswith("http")
    answer = cloud.lambda_.invoke(FunctionName=f"{stack.resources['Hello']}:live")
    assert json.loads(answer["Payload"].read()) == "1"
    processed = cloud.formation.get_template(StackName=stack.name, TemplateStage="Processed")["TemplateBody"]
    assert "AWS::Serverless" not in json.dumps(processed)
    assert stack.delete() == "DELETE_COMPLETE", stack.failures()


def test_a_deployment_preference_shifts_the_alias_by_codedeploy(cloud: Cloud) -> None:
    template = """
Transform: AWS::Serverless-2016-10-31
Parameters: {Answer: {Type: String, Default: one}}
Resources:
  Hello:
    Type: AWS::Serverless::Function
    Properties:
      Handler: index.handler
      Runtime: RUNTIME
      Timeout: 20
      InlineCode: !Sub |
        def handler(event, context):
            return "${Answer}"
      AutoPublishAlias: live
      AutoPublishAliasAllProperties: true
      DeploymentPreference: {Type: AllAtOnce}
"""

    def said() -> str:
        answer = cloud.lambda_.invoke(FunctionName=f"{stack.resources['Hello']}:live")
        return str(json.loads(answer["Payload"].read()))

    stack = cloud.create(template)
    assert stack.status == "CREATE_COMPLETE", stack.failures()
    assert said() == "one"

    assert stack.update(template.replace("Default: one", "Default: two")) == "UPDATE_COMPLETE", (
        stack.failures()
    )

    assert said() == "two"
    application = stack.resources["ServerlessDeploymentApplication"]
    group = stack.resources["HelloDeploymentGroup"]
    deployments = cloud.server.boto("codedeploy").list_deployments(
        applicationName=application, deploymentGroupName=group
    )
    assert len(deployments["deployments"]) == 1
    assert stack.delete() == "DELETE_COMPLETE", stack.failures()


def test_what_had_the_name_before_survives_a_creation_that_fails_for_it(cloud: Cloud) -> None:
    name = unique("group")
    cloud.server.boto("logs").create_log_group(logGroupName=name)

    stack = cloud.create(f"""
Resources: {{Group: {{Type: AWS::Logs::LogGroup, Properties: {{LogGroupName: {name}}}}}}}
""")

    assert stack.status == "ROLLBACK_COMPLETE"
    assert "already exists" in stack.failures()[0][2]
    found = cloud.server.boto("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    assert [group["logGroupName"] for group in found] == [name]


def test_a_failed_creation_that_was_kept_is_taken_up_by_an_update(cloud: Cloud) -> None:
    name = unique("group")
    logs = cloud.server.boto("logs")
    logs.create_log_group(logGroupName=name)
    template = f"""
Resources: {{Group: {{Type: AWS::Logs::LogGroup, Properties: {{LogGroupName: {name}}}}}}}
"""
    stack = cloud.create(template, DisableRollback=True)
    assert stack.status == "CREATE_FAILED"
    logs.delete_log_group(logGroupName=name)

    assert stack.update(template + "Description: once more\n") == "UPDATE_COMPLETE", stack.failures()

    assert logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    assert stack.delete() == "DELETE_COMPLETE"


def test_a_functions_runtime_updates_go_along_with_its_template(cloud: Cloud) -> None:
    plain = "Resources:" + answering("def handler(event, context): return 1")
    managed = plain.replace(
        "      Timeout: 20\n",
        "      Timeout: 20\n      RuntimeManagementConfig: {UpdateRuntimeOn: FunctionUpdate}\n",
    )
    stack = cloud.create(managed)
    assert stack.status == "CREATE_COMPLETE", stack.failures()
    function = stack.resources["Answering"]

    shown = cloud.lambda_.get_runtime_management_config(FunctionName=function)
    assert shown["UpdateRuntimeOn"] == "FunctionUpdate"
    assert stack.update(plain) == "UPDATE_COMPLETE"
    assert cloud.lambda_.get_runtime_management_config(FunctionName=function)["UpdateRuntimeOn"] == "Auto"
