"""Gateway endpoints go with the routes that they brought."""

from __future__ import annotations

from typing import Any

from lambay.neighbours.adapt import adapter


@adapter("moto.ec2.models.vpcs")
def _routes_go_along(module: Any) -> None:
    """moto fails there for an endpoint whose type was left out, which is then a gateway."""
    delete = module.VPCBackend.delete_vpc_endpoints

    def delete_vpc_endpoints(self: Any, vpce_ids: list[str] | None = None) -> None:
        for identifier in vpce_ids or ():
            endpoint = self.vpc_end_points.get(identifier)
            if endpoint is None:
                continue
            endpoint.vpc_endpoint_type = endpoint.vpc_endpoint_type or "Gateway"
            if endpoint.vpc_endpoint_type.lower() == "interface":
                continue
            for table in endpoint.route_table_ids or ():
                routes = self.get_route_table(table)._routes
                for name, route in list(routes.items()):
                    if (
                        getattr(route, "destination_prefix_list_id", None)
                        == endpoint.destination_prefix_list_id
                    ):
                        del routes[name]
            endpoint.route_table_ids = []
        delete(self, vpce_ids)

    module.VPCBackend.delete_vpc_endpoints = delete_vpc_endpoints
