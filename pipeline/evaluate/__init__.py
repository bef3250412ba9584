"""Closed-loop evaluation: a trace is served by a simulated fleet, which each policy scales by what it sees of it."""
