"""Numbered SQL, forward only; applied by `workers.migrate`."""
