"""File systems and access points by NFS: what is offered to whom, and the socket outside of every VPC."""

from lambay.nfs.exports import Exports
from lambay.nfs.server_certificate import identities
from lambay.nfs.visits import Visits
from lambay.nfs.vpc_clients import VpcClients

__all__ = ["Exports", "Visits", "VpcClients", "identities"]
