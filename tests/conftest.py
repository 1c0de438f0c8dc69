"""What holds for every test."""

from hypothesis import HealthCheck, settings

# How fast a machine is says nothing of the code: on a busy one, any example may take long.
settings.register_profile("leti", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("leti")
