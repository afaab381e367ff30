"""VPCs as the resources see them: subnets, zones, security groups and derived network interfaces."""
