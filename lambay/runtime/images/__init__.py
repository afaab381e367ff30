"""Container images: from an archive or an OCI layout to unpacked layers, each once, and how a function starts in them.

Follows the OCI Image Layout, Image Configuration and Layer specifications (1.1) and what `docker save` writes.
What is unpacked here is mounted by slots; where images come from is no business of this room.
"""

from lambay.runtime.images.image import Image, ImageUnusable
from lambay.runtime.images.parts import Parts, parts
from lambay.runtime.images.unpacking import layer_names, unpack

__all__ = ["Image", "ImageUnusable", "Parts", "layer_names", "parts", "unpack"]
