"""A slow and plain second opinion on the engine, and small random traces to ask both about.

`reference` walks over the events one by one with dictionaries and lists. It shares no code with `sigwindow.analysis`,
so that the two agree only where both are right (tests/test_windows_reference.py).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hypothesis import strategies as st
from makers import Row

from sigwindow.probes import signals as sig
from sigwindow.probes.events import (
    BORN_KERNEL_WORKER,
    CLONE_THREAD,
    DISPOSITION_DEFAULT,
    DISPOSITION_HANDLER,
    DISPOSITION_IGNORE,
    EXIT_GROUP,
    GENERATE_PROCESS,
    GENERATE_RESULT,
)


class Span(NamedTuple):
    """From `time_ns` on the thread has this mask and its process this handled set."""

    time_ns: int
    handled: int
    mask: int


@dataclass
class Life:
    """A born thread from its birth to its end: its own rows, and what was sent to it."""

    born: Row
    creator_mask: int | None  # the creator's last mask that let something through; None: not known
    rows: list[Row] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    generated: list[Row] = field(default_factory=list)
    end_ns: int = 0
    ended_by: str = "trace"


class Reference(NamedTuple):
    """The tables of one trace under one policy; each row is a dict named like the engine's columns."""

    threads: list[dict[str, Any]]
    hits: list[dict[str, Any]]
    by_signal: list[dict[str, Any]]


def lives_of(rows: Iterable[Row]) -> list[Life]:
    """Every born thread of a trace, in order of birth.

    A tid names one thread of the host at a time: where it is born again, or shows up in another process, the thread
    that had it is gone and its exit was lost.
    """
    rows = sorted(rows, key=lambda row: row.time_ns)
    lives: list[Life] = []
    alive: dict[int, Life] = {}  # by tid
    handled: defaultdict[int, int] = defaultdict(int)
    open_mask: dict[int, int | None] = {}  # by tid: the last mask that did not block everything
    process_of: dict[int, int] = {}  # by tid

    for row in rows:
        if row.kind == "lost" or (row.kind == "mark" and row.pid == 0):
            continue
        if row.kind == "generate":
            if row.tid in alive and process_of[row.tid] == row.pid:
                alive[row.tid].generated.append(row)
            continue

        if row.kind == "exec":
            for tid in [tid for tid, life in alive.items() if life.born.pid == row.pid]:
                life = alive.pop(tid)
                life.end_ns, life.ended_by = row.time_ns, "exit"
            for tid in [tid for tid, pid in process_of.items() if pid == row.pid and tid != row.tid]:
                del process_of[tid], open_mask[tid]
        if row.kind == "born" or process_of.get(row.tid) != row.pid:
            open_mask[row.tid] = None
            if row.tid in alive:
                life = alive.pop(row.tid)
                life.end_ns = life.rows[-1].time_ns
        process_of[row.tid] = row.pid
        if row.kind == "born":
            forked = not row.flags & CLONE_THREAD  # or else the creator is of the same process
            if forked or process_of.get(row.peer) == row.pid:
                open_mask[row.tid] = open_mask.get(row.peer)
            if row.flags & CLONE_THREAD and not row.flags & BORN_KERNEL_WORKER:
                alive[row.tid] = Life(row, open_mask[row.tid])
                lives.append(alive[row.tid])
        if not sig.blocks_everything(row.mask):
            open_mask[row.tid] = row.mask

        if row.kind in ("snapshot", "born", "action", "exec"):
            handled[row.pid] = row.handled
        elif row.kind == "deliver" and row.disposition == DISPOSITION_HANDLER and row.sa_flags & sig.SA_RESETHAND:
            handled[row.pid] &= ~sig.word_of([row.signal])

        if row.tid in alive:
            alive[row.tid].rows.append(row)
        for life in alive.values():
            if life.born.pid == row.pid:
                life.spans.append(Span(row.time_ns, handled[row.pid], life.rows[-1].mask))
        if row.kind == "exit":
            del open_mask[row.tid]
            del process_of[row.tid]
            if row.tid in alive:
                life = alive.pop(row.tid)
                life.end_ns, life.ended_by = row.time_ns, "exit"

    for life in alive.values():
        life.end_ns = rows[-1].time_ns
    return lives


def steady_row(life: Life) -> Row | None:
    """The first row with the state that the thread then lives with, None where it never got there."""
    steps = [row for row in life.rows if row.kind in ("born", "mask", "altstack")]
    if sig.blocks_everything(life.born.mask):
        if len(steps) == 1:
            return None
        if any(row.kind == "mask" for row in steps):
            steps = steps[1:]

    def drop_final_block() -> None:
        if steps and steps[-1].kind == "mask" and sig.blocks_everything(steps[-1].mask):
            steps.pop()

    last = life.rows[-1]
    if last.kind == "exit" and not last.flags & EXIT_GROUP:
        drop_final_block()
        if steps and steps[-1].kind == "altstack" and not steps[-1].altstack:
            steps.pop()
            drop_final_block()
    return next((row for row in steps if (row.mask, row.altstack) == (steps[-1].mask, steps[-1].altstack)), None)


def ready_row(life: Life, policy: str) -> Row | None:
    """The row at which a thread is ready by a policy, None where it never is."""
    match policy:
        case "altstack":
            return next((row for row in life.rows if row.kind == "altstack" and row.altstack), None)
        case "symbol":
            return next((row for row in life.rows if row.kind == "mark"), None)
        case "steady":
            return steady_row(life)
        case "mask":
            masks = [row for row in life.rows if row.kind == "mask"]
            if masks and sig.blocks_everything(life.born.mask) and life.creator_mask in (None, masks[0].mask):
                masks = masks[1:]
            return masks[0] if masks else None
    raise ValueError(f"the reference knows no policy {policy}")


def exposures(life: Life, start_ns: int, end_ns: int) -> list[tuple[int, int, Span]]:
    """(from, duration, what held) for each stretch of [start_ns, end_ns) of a thread's life."""
    ends = [span.time_ns for span in life.spans[1:]] + [life.end_ns]
    cut = [(max(span.time_ns, start_ns), min(end, end_ns), span) for span, end in zip(life.spans, ends, strict=True)]
    return [(start, end - start, span) for start, end, span in cut if end > start]


def deferred(life: Life, ready_ns: int, considered: int) -> int:
    """Signals directed at the thread while its mask held them back, and handled once it was ready."""
    sent: Counter[int] = Counter(
        row.signal
        for row in life.generated
        if row.time_ns < ready_ns
        and not row.flags & (GENERATE_PROCESS | GENERATE_RESULT)
        and sig.word_of([row.signal]) & row.mask & considered
    )
    taken = [row for row in life.rows if row.kind == "deliver" and row.disposition == DISPOSITION_HANDLER]
    before = Counter(row.signal for row in taken if row.time_ns < ready_ns)
    after = Counter(row.signal for row in taken if row.time_ns > ready_ns)
    return sum(min(max(count - before[signal], 0), after[signal]) for signal, count in sent.items())


def teardown_ns(life: Life, considered: int) -> int:
    """Exposure between the last removal of an alternate stack and the thread's end."""
    removals = [
        row.time_ns
        for before, row in zip(life.rows, life.rows[1:], strict=False)
        if row.kind == "altstack" and before.altstack and not row.altstack
    ]
    if not removals:
        return 0
    stretches = exposures(life, removals[-1], life.end_ns)
    return sum(duration for _, duration, span in stretches if span.handled & ~span.mask & considered)


def reference(rows: Sequence[Row], signals: str = "async", ready: str = "auto") -> Reference:
    """The engine's tables, by their definitions and nothing else.

    rows: events of distinct times, in any order; signals, ready: as the command line takes them.
    """
    considered = sig.considered(signals)
    policy_asked = ready.partition(":")[0]
    lives = lives_of(rows)
    stacked = {life.born.pid for life in lives if ready_row(life, "altstack")}
    losses = [(row.mask, row.time_ns) for row in rows if row.kind == "lost"]

    threads, hits = [], []
    per_signal: dict[int, Counter[str]] = {}
    for life in lives:
        born = life.born
        policy = policy_asked
        if policy == "auto":
            policy = "altstack" if born.pid in stacked else "steady"
        at = ready_row(life, policy)
        window_end_ns = at.time_ns if at else life.end_ns
        judged_until_ns = life.end_ns if policy == "steady" else window_end_ns  # steady looks at the last state

        window = exposures(life, born.time_ns, window_end_ns)
        exposed = [(start, duration) for start, duration, span in window if span.handled & ~span.mask & considered]
        handled = 0 if window else life.spans[0].handled
        open_signals = 0
        for _, _, span in window:
            handled |= span.handled
            open_signals |= span.handled & ~span.mask

        thread_hits = [
            {
                "pid": born.pid,
                "tid": born.tid,
                "born_ns": born.time_ns,
                "time_ns": row.time_ns,
                "signal": row.signal,
                "critical": bool(row.sa_flags & sig.SA_ONSTACK) and not row.altstack,
            }
            for row in life.rows
            if row.kind == "deliver"
            and row.disposition == DISPOSITION_HANDLER
            and sig.word_of([row.signal]) & considered
            and (at is None or row.time_ns < at.time_ns)
        ]
        hits += thread_hits
        critical = sum(hit["critical"] for hit in thread_hits)
        exposure_ns = sum(duration for _, duration in exposed)
        if critical:
            verdict = "critical"
        elif thread_hits:
            verdict = "hit"
        elif exposure_ns:
            verdict = "exposed"
        else:
            verdict = "masked" if handled & considered else "unhandled"

        for signal in sig.members(handled):
            count = per_signal.setdefault(signal, Counter())
            bit = sig.word_of([signal])
            count["threads"] += bool(open_signals & bit)
            if at:
                count["exposure_ns"] += sum(d for _, d, span in window if span.handled & ~span.mask & bit)
        for hit in thread_hits:
            count = per_signal.setdefault(hit["signal"], Counter())
            count["hits"] += 1
            count["critical"] += hit["critical"]

        threads.append(
            {
                "pid": born.pid,
                "tid": born.tid,
                "comm": [row.comm for row in life.rows if row.kind in ("born", "name")][-1],
                "born_ns": born.time_ns,
                "ready_ns": at.time_ns if at else None,
                "end_ns": life.end_ns,
                "ended_by": "ready" if at else life.ended_by,
                "birth_mask": born.mask,
                "setup_ns": window_end_ns - born.time_ns,
                "exposure_ns": exposure_ns,
                "exposed_signals": open_signals & considered,
                "first_exposed_ns": exposed[0][0] if exposed else None,
                "hits": len(thread_hits),
                "critical_hits": critical,
                "deferred": deferred(life, at.time_ns, considered) if at else 0,
                "teardown_exposure_ns": teardown_ns(life, considered),
                "creator_tid": born.peer,
                "creator_stack": born.stack,
                "policy": policy,
                "verdict": verdict,
                "ready": at is not None,
                "uncertain": any(first <= judged_until_ns and last >= born.time_ns for first, last in losses),
            }
        )

    by_signal = [
        {
            "signal": signal,
            "name": sig.name(signal),
            "class": sig.signal_class(signal),
            **{column: count[column] for column in ("threads", "exposure_ns", "hits", "critical")},
        }
        for signal, count in sorted(per_signal.items())
    ]
    return Reference(threads, hits, by_signal)


# Random traces: a small world that behaves as the kernel does, and forgets some of its rows.

BLOCK_ALL = sig.ALL & ~sig.UNBLOCKABLE
BLOCK_ALL_BUT_INTERNAL = BLOCK_ALL & ~sig.word_of((32, 33))
SIGNALS = (27, 10, 11, 33, 34, 64)  # PROF USR1 SEGV SETXID RTMIN RTMAX
MASKS = (
    0,
    sig.word_of([27]),
    sig.word_of([10, 27]),
    sig.word_of([11, 64]),
    sig.word_of(SIGNALS),
    BLOCK_ALL,
    BLOCK_ALL_BUT_INTERNAL,
)
SA_FLAGS = (0, sig.SA_ONSTACK, sig.SA_RESETHAND, sig.SA_ONSTACK | sig.SA_RESETHAND)


@dataclass
class Thread:
    """What the kernel knows of a thread; `old_mask` is what its C library is going to restore."""

    pid: int
    tid: int
    mask: int = 0
    altstack: bool = False
    worker: bool = False
    old_mask: int | None = None
    frames: list[int] = field(default_factory=list)  # masks that handlers' returns put back


class World:
    """A few processes; each step does one thing to them and records its events."""

    def __init__(self) -> None:
        self.time_ns = 1_000
        self.rows: list[Row] = []
        self.actions: dict[int, dict[int, int]] = {}  # pid -> signal -> flags of its handler
        self.threads: list[Thread] = []
        self.free: list[int] = []
        self.next_tid = 100

    def row(self, kind: str, thread: Thread, **more: Any) -> None:
        state = {"pid": thread.pid, "tid": thread.tid, "mask": thread.mask, "altstack": thread.altstack}
        self.rows.append(Row(self.time_ns, kind, **(state | more)))
        self.time_ns += 1

    def sets(self, pid: int) -> dict[str, int]:
        actions = self.actions[pid]
        return {
            "handled": sig.word_of(actions),
            "onstack": sig.word_of(s for s, flags in actions.items() if flags & sig.SA_ONSTACK),
        }

    def tid(self, reuse: bool) -> int:
        if reuse and self.free:
            return self.free.pop()
        self.next_tid += 1
        return self.next_tid

    def process(self, handlers: int) -> None:
        """A process from before the trace; without a snapshot (handlers odd) it is known by its later events only."""
        pid = self.tid(False)
        leader = Thread(pid, pid)
        self.actions[leader.pid] = {s: SA_FLAGS[(handlers + i) % 4] for i, s in enumerate(SIGNALS) if handlers >> i & 1}
        self.threads.append(leader)
        if not handlers & 1:
            self.row("snapshot", leader, comm="old", **self.sets(leader.pid))

    def set_mask(self, thread: Thread, mask: int) -> None:
        thread.mask = mask
        self.row("mask", thread)

    def birth(self, creator: Thread, style: int, reuse: bool) -> None:
        """A new thread: by raw clone, as glibc or cgo do it, by a creator that stays blocked, or the kernel's own."""
        old = creator.mask
        if style in (1, 2, 3):
            self.set_mask(creator, BLOCK_ALL_BUT_INTERNAL if style == 2 else BLOCK_ALL)
        child = Thread(creator.pid, self.tid(reuse), creator.mask, worker=style == 4)
        if style in (1, 2, 3):
            child.old_mask = old
        self.threads.append(child)
        flags = CLONE_THREAD | (BORN_KERNEL_WORKER if child.worker else 0)
        more = {"peer": creator.tid, "flags": flags, "comm": f"t{child.tid}", "stack": f"main;create{style}"}
        self.row("born", child, **more, **self.sets(child.pid))
        if style in (1, 2):
            self.set_mask(creator, old)

    def fork(self, creator: Thread, reuse: bool) -> None:
        tid = self.tid(reuse)
        child = Thread(tid, tid, creator.mask, creator.altstack)
        self.actions[tid] = dict(self.actions[creator.pid])
        self.threads.append(child)
        self.row("born", child, peer=creator.tid, comm="forked", **self.sets(tid))

    def action(self, thread: Thread, signal: int, choice: int) -> None:
        actions = self.actions[thread.pid]
        disposition = (DISPOSITION_HANDLER, DISPOSITION_HANDLER, DISPOSITION_IGNORE, DISPOSITION_DEFAULT)[choice % 4]
        actions.pop(signal, None)
        flags = SA_FLAGS[choice // 4 % 4]
        if disposition == DISPOSITION_HANDLER:
            actions[signal] = flags
        more = {"signal": signal, "disposition": disposition, "sa_flags": flags}
        self.row("action", thread, **more, **self.sets(thread.pid))

    def deliver(self, thread: Thread, signal: int, choice: int) -> None:
        actions = self.actions[thread.pid]
        if signal not in actions:
            disposition = DISPOSITION_IGNORE if choice % 2 else DISPOSITION_DEFAULT
            self.row("deliver", thread, signal=signal, disposition=disposition)
            return
        flags = actions[signal]
        if flags & sig.SA_RESETHAND:
            del actions[signal]
        thread.frames.append(thread.mask)
        thread.mask |= sig.word_of([signal])
        self.row("deliver", thread, signal=signal, disposition=DISPOSITION_HANDLER, sa_flags=flags)

    def generate(self, thread: Thread, signal: int, choice: int) -> None:
        flags = choice % 2 * GENERATE_PROCESS | (choice // 2 % 4 if choice >= 8 else 0)
        self.row("generate", thread, signal=signal, peer=choice, flags=flags)

    def bury(self, thread: Thread) -> None:
        self.threads.remove(thread)
        if thread.tid != thread.pid:
            self.free.append(thread.tid)
        if all(other.pid != thread.pid for other in self.threads):  # the process's id is taken until then
            self.free.append(thread.pid)

    def exit(self, thread: Thread) -> None:
        self.row("exit", thread)
        self.bury(thread)

    def exec(self, caller: Thread) -> None:
        for other in [t for t in self.threads if t.pid == caller.pid]:
            self.bury(other)
        self.actions[caller.pid].clear()
        leader = Thread(caller.pid, caller.pid, caller.mask)
        self.free.clear()  # whom a tid from before an exec means once its new birth is lost is not defined
        self.threads.append(leader)
        self.row("exec", leader, peer=caller.tid, comm="new")

    def exit_group(self, pid: int) -> None:
        for thread in [t for t in self.threads if t.pid == pid]:
            self.row("exit", thread, flags=EXIT_GROUP)
            self.bury(thread)

    def step(self, verb: str, who: int, what: int, choice: int) -> None:
        """One event, or what belongs together, by thread number `who` (counted from the youngest)."""
        self.time_ns += choice
        if not self.threads:
            self.process(what)
            return
        thread = self.threads[-1 - who % len(self.threads)]
        signal = SIGNALS[what % len(SIGNALS)]
        if thread.worker and verb not in ("exit", "generate"):
            verb = "name"
        match verb:
            case "birth":
                self.birth(thread, what % 5, bool(choice % 2))
            case "restore":
                self.set_mask(thread, thread.mask if thread.old_mask is None else thread.old_mask)
            case "mask":
                self.set_mask(thread, MASKS[what % len(MASKS)])
            case "altstack":
                thread.altstack = bool(what % 3)
                self.row("altstack", thread)
            case "action":
                self.action(thread, signal, choice)
            case "deliver":
                self.deliver(thread, signal, choice)
            case "return":
                if thread.frames:
                    thread.mask = thread.frames.pop()
                    self.row("return", thread)
            case "generate":
                self.generate(thread, signal, choice)
            case "start" | "mark":
                self.row(verb, thread)
            case "name":
                self.row("name", thread, comm=f"n{choice}")
            case "snapshot":
                self.row("snapshot", thread, comm="seen", **self.sets(thread.pid))
            case "hold back":
                self.set_mask(thread, thread.mask | sig.word_of([signal]))
                self.generate(thread, signal, 0)
                self.set_mask(thread, thread.mask & ~sig.word_of([signal]))
                self.deliver(thread, signal, 0)
            case "tear down":
                for drops_stack in (False, True, False)[what % 2 : 2 + choice % 2]:
                    thread.altstack &= not drops_stack
                    thread.mask = thread.mask if drops_stack else BLOCK_ALL
                    self.row("altstack" if drops_stack else "mask", thread)
                self.exit(thread)
            case "exit":
                self.exit(thread)
            case "exit_group":
                self.exit_group(thread.pid)
            case "fork":
                self.fork(thread, bool(choice % 2))
            case "exec":
                self.exec(thread)


VERBS = (
    *("birth",) * 5,
    *("mask",) * 4,
    *("altstack",) * 4,
    *("action",) * 3,
    *("deliver",) * 4,
    *("generate",) * 3,
    *("restore",) * 3,
    *("hold back", "tear down") * 2,
    *("exit", "return", "start", "mark", "name", "snapshot", "fork", "exec", "exit_group"),
)


def forget(rows: list[Row], first: int, count: int) -> list[Row]:
    """The rows without `count` of them, in whose place a `lost` row says so."""
    gone = rows[first : first + count]
    if not gone:
        return rows
    lost = Row(gone[-1].time_ns, "lost", mask=gone[0].time_ns, flags=len(gone))
    return [*rows[:first], lost, *rows[first + count :]]


# What threads do that live on: the engine merges the rows of such lives.
LIVING_VERBS = (*("mask",) * 4, *("altstack",) * 3, "action", "action", "deliver", "birth")


@st.composite
def traces(draw: st.DrawFn, living: bool = False) -> list[Row]:
    """A small trace in order of time, as a tracer would have seen it, some rows perhaps missing.

    living: of a thread or two that set themselves up again and again, instead of many short lives.
    """
    small = st.integers(0, 15)
    world = World()
    for handlers in draw(st.lists(st.integers(0, 63), min_size=1, max_size=1 if living else 2)):
        world.process(handlers)
    if living:
        world.step("birth", 0, draw(small), draw(small))
    verbs, lengths = (LIVING_VERBS, (0, 12, 24)) if living else (VERBS, (0, 15, 30))
    steps = st.tuples(st.sampled_from(verbs), st.integers(0, 1 if living else 3), small, small)
    for step in draw(st.lists(steps, min_size=draw(st.sampled_from(lengths)), max_size=60)):
        world.step(*step)
    rows = world.rows
    for first, count in draw(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 4)), max_size=2)):
        rows = forget(rows, first, count)
    if draw(st.booleans()):
        rows.append(Row(world.time_ns + 10, "mark", comm="end"))
    return rows
