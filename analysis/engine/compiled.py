"""How the engine's inner functions are compiled: in line, and kept for the sources that they were made of."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, TypeVar

import numba

_F = TypeVar("_F", bound=Callable[..., Any])
# Without NRT Numba counts no references to arrays, which took two thirds of the time; nothing here allocates any.
# In line, no call passes State on, which is some 130 words: a quarter of the rest.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True, "_nrt": False, "forceinline": True}


def inlined(function: _F) -> _F:
    """Compile a function that compiled ones call."""
    compiled: _F = numba.njit(**_OPTIONS)(function)
    return compiled


def body(function: _F) -> _F:
    """Compile a function that a kept one consists of: with that one, not by itself first."""
    compiled: _F = numba.njit(inline="always", **_OPTIONS)(function)
    return compiled


def kept(function: _F) -> _F:
    """Compile a function that Python calls, and keep what was compiled beside its file, or in the user's cache.

    Numba asks whether that one file has changed. Where what it calls lies elsewhere, it must hold a number for those
    sources (`number_of`) in its closure: Numba finds what it kept by the values in there, too.
    """
    try:
        compiled: _F = numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # neither beside its file nor at home is a folder to keep it in
        return inlined(function)
    return compiled


def number_of(modules: Sequence[ModuleType]) -> int:
    """A number for the text of some modules: another text, another number."""
    text = "".join(inspect.getsource(module) for module in modules)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
