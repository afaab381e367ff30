"""Installs the browser's libraries."""

import subprocess
import sys

from lambay.console import packages

try:
    packages.build()
except (OSError, subprocess.CalledProcessError) as error:
    sys.exit(f"the console's libraries cannot be installed: {error}")
