"""AWS::Serverless-2016-10-31, by AWS's own translator."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping
from typing import Any

from lambay.deploy.template.errors import invalid
from lambay.deploy.types.base import Call

SAM = "AWS::Serverless-2016-10-31"


async def serverless(body: Mapping[str, Any], parameters: Mapping[str, Any], call: Call) -> dict[str, Any]:
    """The CloudFormation template that SAM makes of `body`. Raises AWSError with the translator's complaints."""
    policies = await _managed_policies(call)
    region = str(parameters["AWS::Region"])
    return await asyncio.to_thread(_translate, copy.deepcopy(dict(body)), dict(parameters), policies, region)


def _translate(
    body: dict[str, Any], parameters: dict[str, Any], policies: dict[str, str], region: str
) -> dict[str, Any]:
    import boto3
    from samtranslator.model.exceptions import InvalidDocumentException
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator

    # The translator asks the session for the Region and the partition, nothing else.
    session = boto3.Session("none", "none", region_name=region)
    values = {name: ",".join(item) if isinstance(item, list) else item for name, item in parameters.items()}
    translator = Translator(policies, Parser(), boto_session=session)
    try:
        made: dict[str, Any] = translator.translate(body, values)
    except InvalidDocumentException as error:
        causes = " ".join(f"Error: {cause.message}" for cause in error.causes)
        raise invalid(
            f"Transform {SAM} failed with: Invalid Serverless Application Specification document. Number of errors "
            f"found: {len(error.causes)}. {causes}"
        ) from None
    made.pop("Transform", None)
    named = body.get("Transform")
    others = [item for item in (named if isinstance(named, list) else [named]) if item not in (SAM, None)]
    return made | {"Transform": others} if others else made


async def _managed_policies(call: Call) -> dict[str, str]:
    """AWS's managed policies, name to ARN."""
    found: dict[str, str] = {}
    marker: dict[str, Any] = {}
    while True:
        page = await call("iam", "ListPolicies", {"Scope": "AWS", "MaxItems": 1000, **marker})
        found |= {policy["PolicyName"]: policy["Arn"] for policy in page["Policies"]}
        if not page.get("IsTruncated"):
            return found
        marker = {"Marker": page["Marker"]}
