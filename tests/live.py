"""When a live test may be skipped: nowhere that live tracing was promised (SIGWINDOW_REQUIRE_LIVE=1)."""

from __future__ import annotations

import os

import pytest

from sigwindow.probes import preflight
from sigwindow.probes.errors import CannotTraceError


def require_live() -> None:
    """Skip the test where this machine can't trace, and say why; fail it if SIGWINDOW_REQUIRE_LIVE is 1."""
    try:
        preflight.require()
    except CannotTraceError as error:
        if os.environ.get("SIGWINDOW_REQUIRE_LIVE") == "1":
            pytest.fail(f"SIGWINDOW_REQUIRE_LIVE is set, but: {error}", pytrace=False)
        pytest.skip(str(error))
