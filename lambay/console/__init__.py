"""The web console at `/_lambay/console`, and what only it asks of the server: the network's map, and files.

The console is a web application that runs in the browser without a build step and is a client like any other: it
signs AWS calls with the user's own key. What is here serves its pages and never decides anything.
"""

from lambay.console.console import Console
from lambay.console.files import Files
from lambay.console.topology import Topology

__all__ = ["Console", "Files", "Topology"]
