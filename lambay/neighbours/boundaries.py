"""Permissions boundaries (IAM User Guide): moto's IAM keeps those of roles alone, and takes what is no policy."""

from __future__ import annotations

from typing import Any

from lambay.neighbours import moment
from lambay.neighbours.adapt import adapter


@adapter("moto.iam.models")
def _kept(module: Any) -> None:
    # On the class: users of older snapshots have none.
    module.User.permissions_boundary_arn = None
    module.User.permissions_boundary = property(module.Role.permissions_boundary.fget)


@adapter("moto.iam.responses")
def _operations(module: Any) -> None:
    response = module.IamResponse
    create, create_role = response.create_user, response.create_role
    put_role_permissions_boundary = response.put_role_permissions_boundary

    def boundary(self: Any) -> str | None:
        asked: str | None = self._get_param("PermissionsBoundary")
        at = moment.current()
        # What was accepted once, by a server before this one, stays.
        replayed = at is not None and at.replay
        if asked is not None and not replayed and asked not in self.backend.managed_policies:
            raise module.NotFoundException(f"Scope ARN: {asked} does not exist or is not attachable.")
        return asked

    def create_user(self: Any) -> Any:
        asked = boundary(self)
        made = create(self)
        self.backend.get_user(self._get_param("UserName")).permissions_boundary_arn = asked
        return made

    def put_user_permissions_boundary(self: Any) -> Any:
        user = self.backend.get_user(self._get_param("UserName"))
        user.permissions_boundary_arn = boundary(self)
        return module.EmptyResult()

    def delete_user_permissions_boundary(self: Any) -> Any:
        self.backend.get_user(self._get_param("UserName")).permissions_boundary_arn = None
        return module.EmptyResult()

    def bounded(operation: Any) -> Any:
        def checked(self: Any) -> Any:
            boundary(self)
            return operation(self)

        return checked

    response.create_role = bounded(create_role)
    response.put_role_permissions_boundary = bounded(put_role_permissions_boundary)
    response.create_user = create_user
    response.put_user_permissions_boundary = put_user_permissions_boundary
    response.delete_user_permissions_boundary = delete_user_permissions_boundary
