"""Security groups as EC2 has them: a VPC's default one lets its members talk to each other (see "Default security
groups"), and one that does not exist is named."""

from __future__ import annotations

import hashlib
from typing import Any

from lambay.neighbours import moment
from lambay.neighbours.adapt import adapter
from lambay.neighbours.moment import Moment


@adapter("moto.ec2.models.security_groups")
def _members_reach_each_other(module: Any) -> None:
    """moto's default groups admit nothing."""
    create = module.SecurityGroupBackend.create_security_group

    def create_security_group(self: Any, *args: Any, **kwargs: Any) -> Any:
        group = create(self, *args, **kwargs)
        if group.is_default and not group.ingress_rules:
            # What the rule's id draws must not shift what the request draws after it.
            at = moment.current()
            time = at.time if at is not None else 0.0
            with moment.within(Moment(time, hashlib.sha256(group.id.encode()).digest())):
                own = {"OwnerId": group.owner_id, "UserId": group.owner_id, "GroupId": group.id}
                rule = module.SecurityGroupRule(self, "-1", group.id, None, None, {}, own, is_egress=False)
            group.add_ingress_rule(rule)
        return group

    module.SecurityGroupBackend.create_security_group = create_security_group


@adapter("moto.ec2.models.security_groups")
def _missing_ones_are_named(module: Any) -> None:
    """moto says which set of groups was asked for, those that exist among them."""
    describe = module.SecurityGroupBackend.describe_security_groups

    def describe_security_groups(
        self: Any,
        group_ids: list[str] | None = None,
        groupnames: list[str] | None = None,
        filters: Any = None,
    ) -> Any:
        groups = [group for groups in self.groups.values() for group in groups.values()]
        for asked, known in (
            (group_ids, {group.id for group in groups}),
            (groupnames, {group.name for group in groups}),
        ):
            for each in asked or ():
                if each not in known:
                    raise module.InvalidSecurityGroupNotFoundError(each)
        unique = None if group_ids is None else list(dict.fromkeys(group_ids))
        return describe(self, unique, groupnames, filters)

    module.SecurityGroupBackend.describe_security_groups = describe_security_groups
