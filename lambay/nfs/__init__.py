"""File systems and access points by NFS: what is offered to whom, and the socket outside of every VPC."""

from lambay.nfs.exports import Exports

__all__ = ["Exports"]
