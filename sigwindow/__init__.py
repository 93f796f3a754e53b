"""sigwindow: how long is a new thread exposed to signals before it is ready for them?"""

from sigwindow.probes.errors import CannotTraceError, InputError, SigwindowError, UsageError

__all__ = ["CannotTraceError", "InputError", "SigwindowError", "UsageError"]
