"""CloudFormation: templates become stacks, whose resources are made through the API itself as a client would.

`Stacks` is the service `cloudformation`. `template` is pure: text, functions, conditions, graph. `schemas` are the
registry's. `types` has one module a service; a resource type is a class there (`types.base.ResourceType`: name,
create, update, delete, and what the schema does not say), entered by being listed in its module's `TYPES`. `transforms`
are the macros. Nothing here knows how another service does its work: `Client` is all there is of them.
"""

from lambay.deploy.stacks import Stacks

__all__ = ["Stacks"]
