"""AWS CodeDeploy for Lambda: deployments that move an alias from one version to another, step by step.

`Deployments` is the service `codedeploy`. A room of its own, since CodeDeploy is a service with records, errors and
a life of its own that knows functions only through the Lambda API, which it calls as its service role.
"""

from lambay.deployments.service import Deployments

__all__ = ["Deployments"]
