"""Settings of the tests."""

from hypothesis import HealthCheck, settings

# A busy machine is no defect: nothing is timed here (speed lives in benchmarks/).
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

collect_ignore = ["adapters"]  # they run in environments of their own, see test_adapters.py
