"""The manifests of all images that repositories have, read in moto's own records of ECR.

The API tells them repository by repository and page by page; who collects layers asks for all of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from lambay.neighbours.engine import Engine

Run = Callable[[Callable[[Engine], list[str]]], Awaitable[list[str]]]


class ImageManifests:
    """`run` does work where moto's records are at rest."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def __call__(self) -> list[str]:
        """Of every account and Region, as they were put."""
        return await self._run(_all)


def _all(_: Engine) -> list[str]:
    from moto.ecr.models import ecr_backends

    return [
        str(image.image_manifest)
        for account in list(ecr_backends)
        for region in list(ecr_backends[account].values())
        for repository in region.repositories.values()
        for image in repository.images
    ]
