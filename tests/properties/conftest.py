"""How long hypothesis looks: a few seconds in the suite; `--hypothesis-profile=long` (in `make fuzz`) for minutes, ever anew."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_COMMON = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
}
settings.register_profile("suite", max_examples=25, derandomize=True, **_COMMON)
settings.register_profile("long", max_examples=500, print_blob=True, **_COMMON)
settings.load_profile("suite")
