"""The AWS front door: protocols from botocore's models, SigV4 routing, dispatch, errors, pagination."""
