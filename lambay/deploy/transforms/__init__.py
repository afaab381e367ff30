"""The macros that AWS offers: SAM and AWS::Include. Loops are `template.loops`."""

from lambay.deploy.transforms.include import include
from lambay.deploy.transforms.serverless import SAM, serverless

__all__ = ["SAM", "include", "serverless"]
