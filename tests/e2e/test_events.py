"""Asynchronous invocations, event sources, URLs and provisioned environments, with functions that really run."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from tests.e2e.arrange import PATIENCE, Deployer, Lambay, unique

MARK = """
    import os, time

    def handler(event, context):
        for record in event.get("Records", [event]):
            body = record.get("body") or record.get("mark")
            open(f"/mnt/efs/{body}", "a").write("x")
        time.sleep(event.get("sleep", 0))
        return sorted(os.listdir("/mnt/efs"))
    """

HOW = """
    import os

    def handler(event, context):
        return os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
    """


def until(condition: Callable[[], bool]) -> None:
    """Returns when `condition` holds; fails the test when it does not come about."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


def test_no_accepted_event_is_lost_however_often_the_server_is_killed(own_lambay: Lambay) -> None:
    deploy = Deployer(own_lambay)
    function = deploy.function(MARK, deploy.access_point(deploy.file_system()))
    accepted: list[str] = []
    for life in range(3):
        for number in range(15):
            mark = f"{life}-{number}"
            event = json.dumps({"mark": mark, "sleep": 0.02})
            deploy.lambda_.invoke(FunctionName=function, InvocationType="Event", Payload=event)
            accepted.append(mark)
        own_lambay.kill()
        own_lambay.start()
        deploy = Deployer(own_lambay)
    until(lambda: set(accepted) <= set(deploy.invoke(function, {"mark": "probe"})))


def test_a_queue_invokes_a_function_and_is_emptied(lambay: Lambay, deploy: Deployer) -> None:
    sqs = lambay.boto("sqs")
    function = deploy.function(MARK, deploy.access_point(deploy.file_system()))
    name = unique("queue")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    reading = "arn:aws:iam::aws:policy/service-role/AWSLambdaSQSQueueExecutionRole"
    deploy.iam.attach_role_policy(RoleName=deploy.role.rpartition("/")[2], PolicyArn=reading)
    made = deploy.lambda_.create_event_source_mapping(FunctionName=function, EventSourceArn=arn)
    for number in range(5):
        sqs.send_message(QueueUrl=url, MessageBody=f"message-{number}")
    wanted = {f"message-{number}" for number in range(5)}
    until(lambda: wanted <= set(deploy.invoke(function, {"mark": "probe"})))
    counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

    def left() -> int:
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=counts)["Attributes"]
        return sum(int(found[count]) for count in counts)

    until(lambda: left() == 0)
    deploy.lambda_.delete_event_source_mapping(UUID=made["UUID"])


def test_a_topic_invokes_a_function_that_permits_it(lambay: Lambay, deploy: Deployer) -> None:
    source = MARK.replace(
        'record.get("mark")', 'record["Sns"]["Message"] if "Sns" in record else record["mark"]'
    )
    function = deploy.function(source, deploy.access_point(deploy.file_system()))
    arn = deploy.lambda_.get_function(FunctionName=function)["Configuration"]["FunctionArn"]
    sns = lambay.boto("sns")
    topic = sns.create_topic(Name=unique("topic"))["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn)
    sns.publish(TopicArn=topic, Message="too-early")
    deploy.lambda_.add_permission(
        FunctionName=function,
        StatementId="topic",
        Action="lambda:InvokeFunction",
        Principal="sns.amazonaws.com",
        SourceArn=topic,
    )
    sns.publish(TopicArn=topic, Message="news")
    until(lambda: "news" in deploy.invoke(function, {"mark": "probe"}))
    assert "too-early" not in deploy.invoke(function, {"mark": "probe"})


def test_a_function_url_answers(deploy: Deployer) -> None:
    function = deploy.function(
        """
        def handler(event, context):
            return {"statusCode": 201, "headers": {"x-path": event["rawPath"]}, "body": event["body"][::-1]}
        """
    )
    made = deploy.lambda_.create_function_url_config(FunctionName=function, AuthType="NONE")
    deploy.lambda_.add_permission(
        FunctionName=function,
        StatementId="url",
        Action="lambda:InvokeFunctionUrl",
        Principal="*",
        FunctionUrlAuthType="NONE",
    )
    deploy.lambda_.add_permission(
        FunctionName=function,
        StatementId="invoke",
        Action="lambda:InvokeFunction",
        Principal="*",
        InvokedViaFunctionUrl=True,
    )
    request = urllib.request.Request(
        made["FunctionUrl"] + "a/b", data=b"abc", headers={"content-type": "text/plain"}
    )
    with urllib.request.urlopen(request) as answer:
        assert (answer.status, answer.headers["x-path"], answer.read()) == (201, "/a/b", b"cba")


def test_provisioned_environments_are_ready_before_the_first_call(deploy: Deployer) -> None:
    function = deploy.function(HOW)
    version = deploy.lambda_.publish_version(FunctionName=function)["Version"]
    named: dict[str, Any] = {"FunctionName": function, "Qualifier": version}
    deploy.lambda_.put_provisioned_concurrency_config(**named, ProvisionedConcurrentExecutions=2)

    def status() -> dict[str, Any]:
        found: dict[str, Any] = deploy.lambda_.get_provisioned_concurrency_config(**named)
        return found

    until(lambda: status()["Status"] != "IN_PROGRESS")
    assert (status()["Status"], status()["AvailableProvisionedConcurrentExecutions"]) == ("READY", 2)
    assert deploy.invoke(function, Qualifier=version) == "provisioned-concurrency"
    assert deploy.invoke(function) == "on-demand"
    deploy.lambda_.delete_provisioned_concurrency_config(**named)
