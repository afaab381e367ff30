"""Lambay: AWS Lambda functions on shared Amazon EFS file systems, on your own machines."""

from importlib.metadata import version

__version__ = version("lambay")
