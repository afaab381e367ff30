"""Principals, credentials and (later) the policy evaluator: who signed a request, and what a role's session is."""
