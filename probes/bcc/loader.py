"""The eBPF backend: window.bpf.c compiled by bcc, attached, filtered and read."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sigwindow.probes import btf, events
from sigwindow.probes.errors import CannotTraceError, UsageError
from sigwindow.probes.ring import Ring
from sigwindow.probes.text import decoded

from . import binding, headers

SOURCE = Path(__file__).parent.with_name("bpf") / "window.bpf.c"


@dataclass(frozen=True)
class Options:
    """What to trace, fixed before the probes are loaded.

    everything: all processes but the tracer; follow: also the descendants of the targets; stacks: the creator's stack
    at every birth; buffer_bytes: the ring buffer; mark: binary and function whose return is the readiness mark.
    """

    everything: bool = False
    follow: bool = True
    stacks: bool = False
    buffer_bytes: int = 16 << 20
    mark: tuple[str, str] | None = None

    def defines(self) -> list[str]:
        """The options as the BPF program's compiler sees them."""
        chosen = {
            "TRACE_ALL": self.everything,
            "FOLLOW": self.follow,
            "STACKS": self.stacks,
            "MARK": self.mark is not None,
        }
        return [f"-DRING_PAGES={self.ring_bytes() // os.sysconf('SC_PAGESIZE')}"] + [
            f"-D{name}" for name, on in chosen.items() if on
        ]

    def ring_bytes(self) -> int:
        """The buffer's size as the kernel takes it: a power of two, and whole pages."""
        return 1 << max(self.buffer_bytes - 1, os.sysconf("SC_PAGESIZE") - 1).bit_length()


class Probes:
    """The loaded probes of one session.

    Loading attaches everything; from then on whatever `add` names is recorded. Raises CannotTraceError where the
    kernel or the user's rights do not allow it.
    """

    def __init__(self, options: Options) -> None:
        bcc = binding.load()
        self.options = options
        with headers.for_bcc(), binding.compiler_messages() as log:
            try:
                self._bpf: Any = bcc.BPF(
                    text=SOURCE.read_bytes(),
                    cflags=[f"-I{SOURCE.parent}", *btf.defines(), *options.defines(), "-Wno-macro-redefined"],
                )
            except Exception as error:  # bcc raises plain Exception for whatever clang or the verifier said
                words = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise CannotTraceError(
                    f"the probes could not be loaded: {error}\n{words}\nTry: sigwindow doctor"
                ) from None
            if options.mark:
                self._attach_mark(*options.mark)
        self.ring = Ring(self._bpf[b"events"].map_fd, options.ring_bytes(), events.RECORD)
        self._losses_told = 0
        self._losses_told_ns = 0
        if options.everything:
            self.add([os.getpid()])

    def _attach_mark(self, binary: str, symbol: str) -> None:
        try:
            self._bpf.attach_uretprobe(name=os.fsencode(binary), sym=symbol.encode(), fn_name=b"mark")
        except Exception as error:  # as above
            raise UsageError(f"no function {symbol!r} to watch in {binary}: {error}") from None

    def add(self, pids: Sequence[int]) -> None:
        """Trace these processes from now on (with `everything`: leave them out)."""
        targets = self._bpf[b"targets"]
        for pid in pids:
            targets[ctypes.c_uint32(pid)] = ctypes.c_uint8(1)

    @property
    def watermark_ns(self) -> int:
        """What was drained is earlier than this; what will be is not."""
        return self.ring.watermark_ns

    def fill(self) -> float:
        """How full the buffer is, from 0 to 1."""
        return self.ring.backlog_bytes() / self.ring.size_bytes

    def lost(self) -> int:
        """How many events were lost, as far as drains have told."""
        return self._losses_told

    def drain(self) -> pa.RecordBatch:
        """The events up to now in order of time, with a `lost` event where the buffer had no room."""
        records = self.ring.drain()
        batch = events.batch_of_records(records, self._stacks(records) if self.options.stacks else None)
        lost = self._new_losses()
        return batch if lost is None else events.merged([batch, lost])

    def _new_losses(self) -> pa.RecordBatch | None:
        """The losses since the last drain as an event that lies, as all events of this drain, before the watermark.

        The counters are read after the watermark was taken, so the last loss may be later: its interval then goes
        on in the next drain's event.
        """
        per_cpu = [cpu for cpu in self._bpf[b"losses"][ctypes.c_int(0)] if cpu.count]
        total = sum(cpu.count for cpu in per_cpu)
        last_ns = max((cpu.last_ns for cpu in per_cpu), default=0)
        if not per_cpu or (total == self._losses_told and last_ns < self._losses_told_ns):
            return None
        until_ns = self.ring.watermark_ns - 1
        first_ns = max(self._losses_told_ns, min(cpu.first_ns for cpu in per_cpu))
        if first_ns > until_ns:
            return None
        count = total - self._losses_told
        self._losses_told, self._losses_told_ns = total, until_ns + 1
        return events.batch_of_rows([events.lost(count, first_ns, max(first_ns, min(last_ns, until_ns)))])

    def _stacks(self, records: np.ndarray) -> pa.Array:
        """The folded creator's stacks of births, outermost function first; symbolised once a distinct stack."""
        table = self._bpf[b"stacks"]
        keys = np.where(records["kind"] == events.CODE["born"], records["stack"], -1)
        distinct, first, index = np.unique(keys, return_index=True, return_inverse=True)
        folded = [
            ";".join(
                decoded(self._bpf.sym(address, pid, show_module=False)) for address in reversed(list(table.walk(key)))
            )
            if key >= 0
            else ""
            for key, pid in zip(distinct.tolist(), records["pid"][first].tolist(), strict=True)
        ]
        return events.texts(folded).take(events.array(index, pa.int64()))

    def close(self) -> None:
        """Detach every probe."""
        self.ring.close()
        self._bpf.cleanup()
