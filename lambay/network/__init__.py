"""VPCs as the resources see them: subnets, zones, security groups and derived network interfaces.

The records are the EC2 neighbour's; what is derived from a mount target or a function is put there and taken
away again here. `model` says what reaches what, `Wires` makes packets do so. No file system or function is
known here beyond its interface.
"""

from lambay.network.model import Stop, Verdict
from lambay.network.network import Interface, Network, SecurityGroup, Subnet
from lambay.network.wires import Wires

__all__ = ["Interface", "Network", "SecurityGroup", "Stop", "Subnet", "Verdict", "Wires"]
