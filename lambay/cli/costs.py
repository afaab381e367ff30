"""`lambay costs`: what this month's usage would cost in AWS, by service and by resource."""

from __future__ import annotations

import argparse
import json

from lambay.cli.endpoint import add_endpoint, ask


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("costs", help="what this month's usage would cost in AWS")
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_endpoint(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    costs = ask(options, "GET", "/_lambay/costs")
    if options.json:
        print(json.dumps(costs, indent=2))
        return 0
    print(f"{costs['month']}, at AWS's list prices of {costs['prices_of']} in US dollars\n")
    for service in costs["services"]:
        print(f"{service['service']:<48}{service['amount']:>14.4f}")
        for item in costs["items"]:
            if item["service"] == service["service"]:
                quantity = f"{item['quantity']:.4g} {item['unit']}"
                print(
                    f"  {item['resource']:<22.22} {item['usage']:<23.23} {quantity:<22}{item['amount']:>12.4f}"
                )
    print(f"\n{'total':<48}{costs['total']:>14.4f}")
    return 0
