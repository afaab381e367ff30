"""The services that are not ours: moto in process, made durable by a journal.

Here lives everything that knows moto: how it is called, what it sees of time and randomness, how its state
survives. No resource of our own lives here; rooms above speak to a neighbour through `Neighbours`.
"""

from lambay.neighbours.interfaces import DerivedInterface
from lambay.neighbours.neighbours import Neighbours, Status

__all__ = ["DerivedInterface", "Neighbours", "Status"]
