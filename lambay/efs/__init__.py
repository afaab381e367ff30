"""File systems, mount targets, access points, policies and their rules."""
