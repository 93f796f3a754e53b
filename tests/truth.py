"""Read what a workload wrote of itself: the answers that a trace of it must agree with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

_THREADS = {
    "newosproc": (
        "tid",
        "before_clone_ns",
        "first_ns",
        "before_altstack_ns",
        "after_altstack_ns",
        "after_mask_ns",
        "birth_mask",
    ),
    "workers": ("tid", "before_create_ns", "first_ns", "before_mask_ns", "after_mask_ns"),
}
_HANDLERS = ("tid", "time_ns", "signal", "installed")


@dataclass(frozen=True)
class Truth:
    """One run of a workload, by its own record.

    threads: one row a thread, in order of creation; handlers: one row a run of a handler (newosproc only), `installed`
    says whether that thread had an alternate stack. Columns are as the workload's source describes them.
    """

    program: str
    mode: str
    pid: int
    threads: pd.DataFrame
    handlers: pd.DataFrame


def read_truth(path: Path) -> Truth:
    """Read a truth file.

    path: what the workload's option -o named. Returns its content. Raises ValueError where the file is not complete.
    """
    lines = path.read_text().splitlines()
    if lines[-1:] != ["# end"]:
        raise ValueError(f"{path} is not a complete truth file")
    _, program, _version, mode, pid = lines[0].split()
    rows: dict[str, list[list[str]]] = {"thread": [], "handler": []}
    for line in lines[1:-1]:
        what, *values = line.split()
        rows[what].append(values)

    threads = pd.DataFrame(rows["thread"], columns=pd.Index(_THREADS[program]))
    numbers = threads.columns.drop("birth_mask", errors="ignore")
    threads[numbers] = threads[numbers].astype("int64")
    if "birth_mask" in threads:
        threads["birth_mask"] = pd.Series([int(mask, 16) for mask in threads["birth_mask"]], dtype="uint64")
    handlers = pd.DataFrame(rows["handler"], columns=pd.Index(_HANDLERS)).astype("int64")
    handlers["installed"] = handlers["installed"].astype(bool)
    return Truth(program, mode, int(pid), threads, handlers)
