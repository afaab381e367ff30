"""The AWS front door: protocols from botocore's models, SigV4 routing, dispatch, errors.

What an operation does is not known here; it is a method of an owned service or a neighbour's affair.
"""

from lambay.api.gateway import Gateway, Identity
from lambay.api.listener import Endpoint, Listener

__all__ = ["Endpoint", "Gateway", "Identity", "Listener"]
