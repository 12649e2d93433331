"""The HTTP edge and the live hub."""
