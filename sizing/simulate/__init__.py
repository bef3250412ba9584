"""Request-level discrete-event simulation of replicas with continuous batching, and of a fleet that scales."""

from sizing.simulate.fleet import Fleet, Routing, simulate
from sizing.simulate.outcome import Frontend, Outcome
from sizing.simulate.requests import Requests, generate
from sizing.simulate.world import World

__all__ = ["Fleet", "Frontend", "Outcome", "Requests", "Routing", "World", "generate", "simulate"]
