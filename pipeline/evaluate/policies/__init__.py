"""The policies, one file each, and the registry of them by name."""
