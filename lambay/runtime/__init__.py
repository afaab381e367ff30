"""Execution environments: sandbox, slots, runtime API, bootstraps, and the log of one invocation."""
