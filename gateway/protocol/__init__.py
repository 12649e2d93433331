"""Wire formats: bytes and values only, no I/O."""
