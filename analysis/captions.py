"""The figures of one trace by their names, and what each of them shows: `sigwindow plot` and the page read it here.

They are drawn in plots.py, which takes matplotlib; this takes nothing.
"""

from __future__ import annotations

CAPTIONS = {
    "timeline": "Each thread from its birth: not exposed, exposed, ready, and the handlers that ran too early.",
    "ecdf": "The share of threads whose setup window, and whose exposure, lasted at most so long.",
    "histogram": "How many threads had a setup window, and an exposure, of which length.",
    "signals": "Which signals could reach which process or thread.",
    "rate": "Births a second, and the exposure they led to.",
}
