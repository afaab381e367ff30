"""What a template of functions with a file system should have, checked before anything is made.

`findings` is pure: a template's text in, findings with line and fix out. cfn-lint checks the form; here it is what
only shows when packets, permissions and files meet.
"""

from lambay.deploy.checklist.checklist import findings
from lambay.deploy.checklist.finding import Finding

__all__ = ["Finding", "findings"]
