"""What is asked of a trace: by which policy a thread is ready, and which signals count."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from sigwindow.probes import signals as sig
from sigwindow.probes.errors import UsageError

# What `--ready` takes, and the moment at which a thread is ready then (docs/model.md); how the engine finds it is in
# engine/readiness.py.
MOMENTS = {
    "altstack": "the first sigaltstack that installs a stack",
    "mask": "the first mask that the thread sets itself; the C library's restore does not count",
    "steady": "the first moment at which the thread has both the mask and the alternate stack that it then lives with",
    "symbol:NAME": "the return of a function, recorded by a probe on it",
}
POLICIES = tuple(value.partition(":")[0] for value in MOMENTS)  # records name a policy by its place here
AUTO = "for each process: altstack if one of its threads installs a stack, else steady"
VALUES = ("auto", *MOMENTS)
ONE_OF_THEM = f"{', '.join(VALUES[:-1])} or {VALUES[-1]}"
_CHOICES = {"auto": ("altstack", "steady")} | {name: (name,) for name in POLICIES}


@dataclass(frozen=True)
class Question:
    """What is asked of a trace, in the words of the command line; it means the same of a trace of any system.

    ready: a readiness policy, a value of `--ready`. signals: those that count, a value of `--signals`.
    """

    ready: str = "auto"
    signals: str = "async"

    @classmethod
    def parse(cls, ready: str, signals: str) -> Question:
        """What a user asks. Raises UsageError for an unknown policy, and for a signal that no system has."""
        question = cls(ready, signals)
        _ = question.policies
        unknown = []
        for numbering in sig.NUMBERINGS:
            try:
                sig.considered(signals, numbering)
                return question
            except UsageError as error:
                unknown.append(error)
        raise unknown[0]

    def __str__(self) -> str:
        return f"signals = {self.signals}; ready = {self.ready}"

    def same_as(self, other: Question) -> None:
        """Raises UsageError where two traces were asked different questions: their answers don't go together."""
        if self != other:
            raise UsageError(
                f"one trace is asked {self}, the other {other}: give both the same by under(ready=..., signals=...)"
            )

    @property
    def policies(self) -> tuple[int, ...]:
        """The policies that may count for a process, as places in POLICIES: two of them under `auto`.

        Raises UsageError for an unknown policy.
        """
        chosen = _CHOICES.get("symbol" if self.ready.startswith("symbol:") else self.ready)
        if chosen is None:
            raise UsageError(f"unknown readiness policy {self.ready!r}: give {ONE_OF_THEM}")
        return tuple(map(POLICIES.index, chosen))

    def considered(self, numbering: sig.Numbering) -> int:
        """The signals that count in a trace of one system, as a set word.

        Raises UsageError for a signal that this system does not have.
        """
        return sig.considered(self.signals, numbering)

    def names(self, system: str) -> set[str]:
        """The names of the signals that count, in a trace of a system (its `os`); of an unknown one those of any."""
        found = set()
        for numbering in (sig.numbering(system),) if system else sig.NUMBERINGS:
            with suppress(UsageError):  # of traces of several systems one may not have the signal
                found |= {sig.name(signal, numbering) for signal in sig.members(self.considered(numbering))}
        return found
