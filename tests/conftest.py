"""One profile for every property test: no deadline, since two tests that share a core would miss any."""

from hypothesis import settings

settings.register_profile("estimator-serving", deadline=None)
settings.load_profile("estimator-serving")
