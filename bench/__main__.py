"""`make bench`: every benchmark in turn."""

import subprocess
import sys

for name in ("files", "nfs", "invoke", "logs", "observe"):
    print(f"\n=== {name} ===", flush=True)
    subprocess.run([sys.executable, "-m", f"bench.{name}"], check=True)
