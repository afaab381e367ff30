"""Looking at templates: of stacks, and of callers who want to know what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lambay.aws import Call
from lambay.deploy import planning
from lambay.deploy.change_set_operations import ChangeSetOperations
from lambay.deploy.template import parameters, reading, template
from lambay.deploy.template.parameters import Parameter
from lambay.deploy.template.template import Template


class TemplateOperations(ChangeSetOperations):
    async def get_template(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        if "ChangeSetName" in input:
            _, found = self._change_set(call, input)
            shape = found.shape
        else:
            shape = self._book.stack(
                call.account,
                call.region,
                input.get("StackName", ""),
                message="Stack with id {} does not exist",
            ).shape
        processed = input.get("TemplateStage", "Original") == "Processed" and shape.processed
        return {
            "TemplateBody": shape.processed if processed else shape.template,
            "StagesAvailable": ["Original", "Processed"],
        }

    async def validate_template(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        document = await self._document(call, input)
        made = _parsed(document)
        declared = [
            {
                "ParameterKey": one.name,
                "NoEcho": one.no_echo,
                **({"DefaultValue": one.default} if one.default is not None else {}),
                **({"Description": one.description} if one.description else {}),
            }
            for one in _declared(document).values()
        ]
        return {
            "Parameters": declared,
            **({"Description": document.body["Description"]} if document.body.get("Description") else {}),
            **_needs(document, made),
        }

    async def get_template_summary(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """Of a template that is given, or of a stack's."""
        if "StackName" in input:
            stack = self._book.stack(call.account, call.region, input["StackName"])
            document = reading.read(stack.shape.template)
        else:
            document = await self._document(call, input)
        made = _parsed(document)
        shown: dict[str, Any] = {
            "Parameters": [_declaration(one) for one in _declared(document).values()],
            "ResourceTypes": sorted(_types(document)),
            **_needs(document, made),
        }
        if "AWSTemplateFormatVersion" in document.body:
            shown["Version"] = "2010-09-09"
        if document.body.get("Description"):
            shown["Description"] = document.body["Description"]
        if document.body.get("Metadata"):
            shown["Metadata"] = msgspec.json.encode(document.body["Metadata"]).decode()
        return shown

    async def _document(self, call: Call, input: dict[str, Any]) -> reading.Document:
        aws = await self._call_as(self._caller(call.principal), None, call.account, call.region)
        return reading.read(await self._body(input, aws))


def _parsed(document: reading.Document) -> Template | None:
    """The template where it needs no macro; with one its form is known only after it."""
    if template.transforms(document.body):
        resources = document.body.get("Resources")
        if not isinstance(resources, dict) or not resources:
            template.parse(document)
        return None
    made = template.parse(document)
    planning.check_types(made)
    planning.check_policies(made)
    planning.check_attributes(made)
    return made


def _declared(document: reading.Document) -> Mapping[str, Parameter]:
    return parameters.declared(document.body.get("Parameters") or {})


def _types(document: reading.Document) -> set[str]:
    resources = document.body.get("Resources", {})
    return {str(one["Type"]) for one in resources.values() if isinstance(one, dict) and "Type" in one}


def _needs(document: reading.Document, made: Template | None) -> dict[str, Any]:
    """Capabilities with their reason, and the macros."""
    shown: dict[str, Any] = {}
    macros = template.transforms(document.body)
    if made is not None:
        needed, names = template.capabilities(made)
        if needed:
            shown["Capabilities"] = list(needed)
            kinds = ", ".join(dict.fromkeys(made.resources[one].type for one in names))
            shown["CapabilitiesReason"] = f"The following resource(s) require capabilities: [{kinds}]"
    elif macros:
        shown["Capabilities"] = ["CAPABILITY_AUTO_EXPAND"]
        shown["CapabilitiesReason"] = f"The following resource(s) require capabilities: [{', '.join(macros)}]"
    if macros:
        shown["DeclaredTransforms"] = list(macros)
    return shown


def _declaration(parameter: Parameter) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "ParameterKey": parameter.name,
        "ParameterType": parameter.type,
        "NoEcho": parameter.no_echo,
    }
    if parameter.default is not None:
        shown["DefaultValue"] = parameter.default
    if parameter.description:
        shown["Description"] = parameter.description
    constraints: dict[str, Any] = {}
    if parameter.allowed is not None:
        constraints["AllowedValues"] = list(parameter.allowed)
    return {**shown, "ParameterConstraints": constraints}
