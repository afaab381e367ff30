"""Amazon EFS: file systems, mount targets, access points and their settings, as records and directories.

Serving files is fsd's part; addresses and reachability are the network's. Only `host_mounts` and `burst_credits`
speak HTTP.
"""

from lambay.efs.mount_source import MountSource, MountTargetAddress
from lambay.efs.resources import Limits
from lambay.efs.service import FileSystems

__all__ = ["FileSystems", "Limits", "MountSource", "MountTargetAddress"]
