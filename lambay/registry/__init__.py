"""Container images: their blobs on disk, the door that `docker push` uses, and what functions run of them.

Which repositories, tags and images there are is ECR's to say, a neighbour; here are the bytes and the OCI
distribution API on them. Nothing here knows how an image is run.
"""

from lambay.registry.registry import Registry, ResolvedImage

__all__ = ["Registry", "ResolvedImage"]
