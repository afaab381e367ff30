"""VPCs as the resources see them: subnets, zones, security groups and derived network interfaces.

The records are the EC2 neighbour's; what is derived from a mount target or a function is put there and taken
away again here. No packet is filtered here.
"""

from lambay.network.network import Interface, Network, SecurityGroup, Subnet

__all__ = ["Interface", "Network", "SecurityGroup", "Subnet"]
