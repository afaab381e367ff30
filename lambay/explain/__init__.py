"""`lambay explain`: why a function cannot use its file system, step by step, and the one thing to change.

Stands above the resources and asks them as anybody could; what it finds it changes nothing about.
"""

from lambay.explain.explainer import Explainer
from lambay.explain.findings import Explanation, Step

__all__ = ["Explainer", "Explanation", "Step"]
