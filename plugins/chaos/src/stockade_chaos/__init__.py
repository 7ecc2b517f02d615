"""Any provider, with faults at stated rates and seeds.

my_application(provider="chaos:docker:python:3.12-slim?death_rate=0.1&seed=7")
"""

from __future__ import annotations

from stockade_chaos.faults import start_over

__all__ = ["start_over"]
