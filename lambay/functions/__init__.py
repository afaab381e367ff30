"""Functions, versions, aliases, layers, permissions, and how an invocation finds its environment."""
