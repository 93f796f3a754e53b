"""A BPF ring buffer read in bulk: one NumPy copy for the whole backlog, no Python per record.

The layout is that of kernel/bpf/ringbuf.c: a page with the consumer's position (ours to write), a page with the
producer's, then the data, mapped twice in a row so that no record wraps. A record is a header of 8 bytes (length, with
bit 31 = still being written, bit 30 = discarded) and the payload.
"""

from __future__ import annotations

import mmap
import time

import numpy as np

_BUSY, _DISCARDED = 1 << 31, 1 << 30


class Ring:
    """A mapped ring buffer of records of one fixed size, drained in order of time.

    map_fd: the map's file descriptor; size_bytes: the data area, a power of two; record: the payload's dtype, a
    multiple of 8 bytes long (so no record needs padding).
    """

    def __init__(self, map_fd: int, size_bytes: int, record: np.dtype) -> None:
        page = mmap.PAGESIZE
        self.size_bytes = size_bytes
        self._consumer_map = mmap.mmap(map_fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._data_map = mmap.mmap(map_fd, page + 2 * size_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumer = np.frombuffer(self._consumer_map, np.uint64, 1)
        self._producer = np.frombuffer(self._data_map, np.uint64, 1)
        self._data = np.frombuffer(self._data_map, np.uint8, 2 * size_bytes, offset=page)
        self._slot = np.dtype([("length", "<u4"), ("page", "<u4"), ("payload", record)])
        self._held = np.empty(0, record)
        self.watermark_ns = 0  # all that was drained is earlier, all that will be is not

    def backlog_bytes(self) -> int:
        """How much of the buffer waits to be read."""
        return int(self._producer[0] - self._consumer[0])

    def drain(self, *, wait_s: float = 0.05) -> np.ndarray:
        """All records up to now, sorted by time; nothing that a later drain returns is earlier.

        Records take their time after their place in the buffer. So what is reserved after the position read here is
        also later than the clock read before it, and what carries a later time than that clock is held for the next
        drain. A writer that is interrupted between its two steps is awaited for up to `wait_s`; after that, all that
        was read is held.
        """
        now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        end = int(self._producer[0])
        parts = [self._held] if len(self._held) else []
        deadline = time.monotonic() + wait_s
        while not (complete := self._read_up_to(end, parts)) and time.monotonic() < deadline:
            time.sleep(0.0001)
        records = parts[0] if len(parts) == 1 else np.concatenate([self._held[:0], *parts])
        times = records["time_ns"]
        if np.any(times[1:] < times[:-1]):  # two processors, mostly in order
            records = records[np.argsort(times, kind="stable")]
        if complete:
            self.watermark_ns = now_ns
        ready = int(np.searchsorted(records["time_ns"], self.watermark_ns, side="left"))
        self._held = records[ready:]
        return records[:ready]

    def _read_up_to(self, end: int, parts: list[np.ndarray]) -> bool:
        """Copy the finished records before position `end`; whether that was all of them."""
        start = int(self._consumer[0])
        count = (end - start) // self._slot.itemsize
        if count <= 0:
            return True
        offset = start & (self.size_bytes - 1)
        slots = self._data[offset : offset + count * self._slot.itemsize].view(self._slot)
        busy = np.flatnonzero(slots["length"] & _BUSY)
        finished = int(busy[0]) if len(busy) else count
        kept = slots[:finished]["payload"].copy()
        discarded = slots[:finished]["length"] & _DISCARDED
        if discarded.any():
            kept = kept[discarded == 0]
        parts.append(kept)
        # The copy is done: only now may the kernel write over it. x86 and NumPy keep this order.
        self._consumer[0] = start + finished * self._slot.itemsize
        return finished == count

    def close(self) -> None:
        """Give the mapping back."""
        del self._consumer, self._producer, self._data
        self._consumer_map.close()
        self._data_map.close()
