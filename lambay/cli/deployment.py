"""The work of `lambay deploy`: package, change set, progress, outputs."""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lambay.cli.endpoint import CommandError, client
from lambay.cli.packaging import bucket, package
from lambay.cli.progress import Progress

_CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
_LOOK_SECONDS = 0.1
_NOTHING = ("didn't contain changes", "No updates are to be performed")
_SIGNS = {
    "Add": ("+", "green"),
    "Modify": ("~", "yellow"),
    "Remove": ("-", "red"),
    "Dynamic": ("?", "yellow"),
}


def stack_name(template: Path, given: str | None) -> str:
    """`given`, or one made of the template's place: `shop/template.yaml` is `shop`."""
    if given:
        return given
    path = template.resolve()
    plain = path.parent.name if path.stem in ("template", "main", "stack", "app") else path.stem
    name = re.sub(r"[^A-Za-z0-9-]+", "-", plain).strip("-")
    if not name or not name[0].isalpha():
        name = f"stack-{name}".rstrip("-")
    return name[:128]


def deploy(options: argparse.Namespace, console: Console) -> int:
    """Raises CommandError, and what boto3 raises."""
    cloudformation = client(options, "cloudformation")
    name = stack_name(options.template, options.stack_name)
    account = client(options, "sts").get_caller_identity()["Account"]
    body = package(options.template, bucket(client(options, "s3"), account, options.region), options.endpoint)
    before = _stack(cloudformation, name)
    fresh = before is None or before["StackStatus"] == "REVIEW_IN_PROGRESS"
    change_set, changes = _change_set(cloudformation, name, body, options, before, fresh)
    if change_set is None:
        console.print(f"{name} is up to date.")
        _outputs(cloudformation, name, options.json, console)
        return 0
    _show(changes, console)
    if options.dry_run or (options.confirm and not _agreed(console)):
        cloudformation.delete_change_set(ChangeSetName=change_set["ChangeSetId"])
        if fresh:
            cloudformation.delete_stack(StackName=change_set["StackId"])
        return 0
    progress = Progress(cloudformation, change_set["StackId"], name)
    cloudformation.execute_change_set(ChangeSetName=change_set["ChangeSetId"])
    status = progress.follow(console)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        reasons = "".join(f"\n  {resource}: {reason}" for resource, reason in progress.failures)
        raise CommandError(f"{name} ended in {status}{reasons}")
    _outputs(cloudformation, name, options.json, console)
    return 0


def _stack(cloudformation: Any, name: str) -> dict[str, Any] | None:
    from botocore.exceptions import ClientError

    try:
        found: dict[str, Any] = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    return found


def _change_set(
    cloudformation: Any,
    name: str,
    body: str,
    options: argparse.Namespace,
    before: dict[str, Any] | None,
    fresh: bool,
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """A change set that is ready, with its changes; none where nothing would change."""
    if before is not None and before["StackStatus"] == "ROLLBACK_COMPLETE":
        raise CommandError(f"{name} failed to be made and can't be updated: `lambay destroy {name}` first")
    given = dict(_pair("--parameter", text) for text in options.parameter)
    parameters: list[dict[str, Any]] = [
        {"ParameterKey": key, "ParameterValue": value} for key, value in given.items()
    ]
    if not fresh and before is not None:
        declared = {
            each["ParameterKey"]
            for each in cloudformation.get_template_summary(TemplateBody=body)["Parameters"]
        }
        kept = {each["ParameterKey"] for each in before.get("Parameters", [])} & declared - set(given)
        parameters += [{"ParameterKey": key, "UsePreviousValue": True} for key in sorted(kept)]
    made: dict[str, Any] = cloudformation.create_change_set(
        StackName=name,
        ChangeSetName=f"lambay-deploy-{time.time_ns()}",
        ChangeSetType="CREATE" if fresh else "UPDATE",
        TemplateBody=body,
        Parameters=parameters,
        Capabilities=_CAPABILITIES,
        Tags=[{"Key": key, "Value": value} for key, value in (_pair("--tag", text) for text in options.tag)],
    )
    made = {"ChangeSetId": made["Id"], "StackId": made["StackId"]}
    changes: list[dict[str, Any]] = []
    while True:
        found = cloudformation.describe_change_set(ChangeSetName=made["ChangeSetId"])
        if found["Status"] == "CREATE_COMPLETE":
            break
        if found["Status"] == "FAILED":
            cloudformation.delete_change_set(ChangeSetName=made["ChangeSetId"])
            if any(words in found.get("StatusReason", "") for words in _NOTHING):
                return None, []
            if fresh:
                cloudformation.delete_stack(StackName=made["StackId"])
            raise CommandError(found.get("StatusReason", "the change set failed"))
        time.sleep(_LOOK_SECONDS)
    changes += found["Changes"]
    while "NextToken" in found:
        found = cloudformation.describe_change_set(
            ChangeSetName=made["ChangeSetId"], NextToken=found["NextToken"]
        )
        changes += found["Changes"]
    return made, changes


def _pair(option: str, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise CommandError(f"{option}: {text!r} is not KEY=VALUE")
    return key, value


def _show(changes: list[dict[str, Any]], console: Console) -> None:
    table = Table("", "Resource", "Type", "Replacement", "Because of", box=None, pad_edge=False)
    for change in changes:
        resource = change["ResourceChange"]
        sign, colour = _SIGNS.get(resource["Action"], ("?", "yellow"))
        replaced = {"True": "replaced", "Conditional": "perhaps replaced"}.get(
            resource.get("Replacement", ""), ""
        )
        causes = dict.fromkeys(
            detail["Target"].get("Name") or detail["Target"]["Attribute"]
            for detail in resource.get("Details", ())
        )
        table.add_row(
            f"[{colour}]{sign}[/]",
            resource["LogicalResourceId"],
            resource["ResourceType"],
            replaced,
            ", ".join(causes),
        )
    console.print(table)


def _agreed(console: Console) -> bool:
    return console.input("Change this? [y/N] ").strip().lower() in ("y", "yes")


def _outputs(cloudformation: Any, name: str, as_json: bool, console: Console) -> None:
    stack = _stack(cloudformation, name)
    found = [] if stack is None else stack.get("Outputs", [])
    if as_json:
        print(json.dumps({each["OutputKey"]: each["OutputValue"] for each in found}, indent=2))
        return
    for each in found:
        console.print(
            f"[bold]{each['OutputKey']}[/] = {each['OutputValue']}", soft_wrap=True, highlight=False
        )
