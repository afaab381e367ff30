"""`Deployments`: the service `codedeploy`."""

from __future__ import annotations

from lambay.aws import Ask
from lambay.clock import Clock
from lambay.deployments.deployment_operations import DeploymentOperations
from lambay.deployments.ports import AlarmStates, NoAlarms, Roles
from lambay.deployments.records import Application, Deployment, DeploymentConfig, DeploymentGroup, Revision
from lambay.deployments.rollout import Rollouts
from lambay.store import Store


class Deployments(DeploymentOperations):
    """AWS CodeDeploy, API version 2014-10-06, for functions. `start` before the first call, `stop` after the last."""

    def __init__(
        self, store: Store, ask: Ask, clock: Clock, roles: Roles, alarms: AlarmStates | None = None
    ) -> None:
        self._store = store
        self._applications = store.collection("codedeploy.applications", Application)
        self._groups = store.collection("codedeploy.groups", DeploymentGroup)
        self._configs = store.collection("codedeploy.configs", DeploymentConfig)
        self._deployments = store.collection("codedeploy.deployments", Deployment)
        self._revisions = store.collection("codedeploy.revisions", Revision)
        self._ask = ask
        self._clock = clock
        self._roles = roles
        self._rollouts = Rollouts(store, self._deployments, self._groups, ask, alarms or NoAlarms(), clock)

    async def start(self) -> None:
        """Go on with the deployments that an earlier run left."""
        self._rollouts.start()

    async def stop(self) -> None:
        await self._rollouts.stop()

    async def reset(self) -> None:
        """After every record was removed: nothing is under way any more."""
        await self._rollouts.stop()
