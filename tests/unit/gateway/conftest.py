"""Properties are about behaviour; how fast a shared machine is, is not."""

from hypothesis import settings

settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")
