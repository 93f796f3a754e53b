"""Lives under the policy that counts for each, and the verdict on them."""

from __future__ import annotations

from collections import Counter

import numpy as np

from sigwindow.analysis.durations import counted
from sigwindow.analysis.question import POLICIES
from sigwindow.analysis.tables import VERDICTS
from sigwindow.analysis.totals import OPENED

from .records import BY_STEADY, CRITICAL, DEFERRED, EXPOSED, EXPOSURE_NS, HANDLED, HITS, READY_NS, Array
from .store import Part


def policy_of(processes: Array, policies: tuple[int, ...]) -> Array:
    """The policy that counts for each process (PROCESS): of two the first where it installs alternate stacks."""
    return np.where(processes["installs"], policies[0], policies[-1])


class Judged:
    """Some lives under the policy that counts for each: the columns of the thread table, as arrays.

    policy: the place in POLICIES, a life. considered: a set word. losses: (from_ns, to_ns) sorted each by itself.
    """

    def __init__(self, part: Part, policy: Array, considered: np.uint64, losses: tuple[Array, Array]) -> None:
        self.part, self.lives, self.policy, self._considered = part, part.lives, policy, considered
        lives = part.lives
        kept = (part.policies[:, None] == policy).argmax(axis=0)  # where its policy is among the kept ones
        uniform = len(kept) > 0 and bool((kept == kept[0]).all())

        def chosen(values: Array, which: int) -> Array:
            found: Array = values[kept[0], which] if uniform else values[kept, which, np.arange(len(kept))]
            return found

        def tallied(which: int) -> Array:
            counts = np.zeros(len(policy), np.int64)
            if len(part.tallies):
                having = np.flatnonzero(lives["tally"] >= 0)
                counts[having] = part.tallies[lives["tally"][having], policy[having], which]
            return counts

        self.ready_ns = chosen(part.spans, READY_NS)
        self.exposure_ns = chosen(part.spans, EXPOSURE_NS)
        self.first_exposed_ns = np.where(self.exposure_ns > 0, lives["first_exposed_ns"], -1)
        self.exposed, self.handled = chosen(part.sets, EXPOSED), chosen(part.sets, HANDLED)
        self.hits, self.critical, self.deferred = (tallied(which) for which in (HITS, CRITICAL, DEFERRED))
        self.ready = self.ready_ns >= 0
        stop_ns = np.where(self.ready, self.ready_ns, lives["end_ns"])
        self.setup_ns = stop_ns - lives["born_ns"]
        reached = {  # every verdict but the first one; a life has the worst that it reached
            "masked": self.handled & considered != 0,
            "exposed": self.exposure_ns > 0,
            "hit": self.hits > 0,
            "critical": self.critical > 0,
        }
        self.verdict = np.zeros(len(policy), np.int8)
        for rank, verdict in enumerate(VERDICTS[1:], 1):
            np.maximum(self.verdict, np.int8(rank) * reached[verdict], out=self.verdict)
        self.uncertain = np.zeros(len(policy), bool)
        if len(losses[0]):
            # What is steady is decided by the last state: a loss in all of a life can change it.
            judged_until_ns = np.where(policy == BY_STEADY, lives["end_ns"], stop_ns)
            begun = np.searchsorted(losses[0], judged_until_ns, side="right")
            self.uncertain = begun > np.searchsorted(losses[1], lives["born_ns"], side="left")

    def worst(self, count: int) -> Array:
        """Places of the `count` worst lives, in the order of `tables.worst_first`."""
        bad = np.flatnonzero(self.verdict >= VERDICTS.index("exposed"))
        hit = bad[self.hits[bad] > 0]
        if len(hit) >= count:
            bad = hit
        elif len(bad) > count:  # those that were hit, and of the others no more than can be among the worst
            exposure_ns = self.exposure_ns[bad]
            enough_ns = np.partition(exposure_ns, -count)[-count]
            bad = bad[(exposure_ns >= enough_ns) | (self.hits[bad] > 0)]
        lives = self.lives[bad]
        birth = (lives["tid"], lives["pid"], lives["born_ns"])
        order = np.lexsort((*birth, -self.exposure_ns[bad], -self.hits[bad], -self.critical[bad]))
        return bad[order[:count]]

    def exposed_under(self, internal: np.uint64) -> Counter[tuple[str, str, bool, str, int]]:
        """How many exposed lives there are by their circumstances: the columns of EXPOSED, the signals still a set.

        internal: the C library's own signals, which a program can't block.
        """
        bad = np.flatnonzero(self.verdict >= VERDICTS.index("exposed"))
        open_to = self.exposed[bad] & self._considered
        others = open_to & ~internal
        at_birth = others & ~self.lives["birth_mask"][bad] != 0
        opened = np.select([at_birth, (open_to == 0) | (others != 0)], [0, 1], 2)
        ready = self.ready[bad].astype(np.int8)
        shape = (len(POLICIES), len(VERDICTS), 2, len(OPENED))
        code = np.ravel_multi_index((self.policy[bad], self.verdict[bad], ready, opened), shape)
        found: Counter[tuple[str, str, bool, str, int]] = Counter()
        for of in np.flatnonzero(np.bincount(code)):
            policy, verdict, is_ready, since = np.unravel_index(of, shape)
            for signals, threads in zip(*(a.tolist() for a in counted(open_to[code == of])), strict=True):
                found[POLICIES[policy], VERDICTS[verdict], bool(is_ready), OPENED[since], signals] = threads
        return found
