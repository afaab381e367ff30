"""List prices in US dollars, of US East (N. Virginia), on demand, without free tiers.

From AWS's public price pages (aws.amazon.com/efs/pricing, /lambda/pricing, /vpc/pricing, /ec2/pricing/on-demand) as
they were quoted until `AS_OF`. A file `prices.json` in the data directory replaces those that it names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

AS_OF = "2026-06"

GIB = 1 << 30

_DEFAULT: dict[str, float] = {
    # A GB-month, regional file systems and One Zone.
    "efs.storage.Standard": 0.30,
    "efs.storage.IA": 0.016,
    "efs.storage.Archive": 0.008,
    # Bursting and provisioned file systems pay more for Infrequent Access.
    "efs.storage.legacy.IA": 0.025,
    "efs.storage.one-zone.Standard": 0.16,
    "efs.storage.one-zone.IA": 0.0133,
    # A GB moved in elastic mode.
    "efs.elastic.read": 0.03,
    "efs.elastic.write": 0.06,
    # A month of 1 MB/s above what storage brings along.
    "efs.provisioned": 6.00,
    # A request, a GB-second of x86.
    "lambda.request": 0.20 / 1_000_000,
    "lambda.gb-second": 0.0000166667,
    # A GB-second of provisioned concurrency, used or not.
    "lambda.provisioned.gb-second": 0.0000041667,
    # An hour of a NAT gateway.
    "ec2.nat.hour": 0.045,
    # A GB that it hands on, either way.
    "ec2.nat.gb": 0.045,
    # A GB from one Availability Zone to another, either way.
    "ec2.zones.gb": 0.01,
}


class InvalidPrices(ValueError):
    """The file of prices cannot be used; says why."""


@dataclass(frozen=True, slots=True)
class Prices:
    """`of` names what a price is for; `as_of` says whose they are."""

    of: dict[str, float]
    as_of: str = AS_OF

    @classmethod
    def load(cls, path: Path) -> Prices:
        """The list prices, with those of the file at `path` where there is one. Raises InvalidPrices."""
        try:
            given = msgspec.json.decode(path.read_bytes(), type=dict[str, float])
        except FileNotFoundError:
            return cls(dict(_DEFAULT))
        except (msgspec.DecodeError, OSError) as error:
            raise InvalidPrices(f"{path}: {error}") from None
        unknown = sorted(given.keys() - _DEFAULT.keys())
        if unknown:
            raise InvalidPrices(f"{path}: {unknown[0]!r} is none of {', '.join(_DEFAULT)}")
        return cls(_DEFAULT | given, f"{AS_OF} and {path.name}")

    def __getitem__(self, name: str) -> float:
        return self.of[name]
