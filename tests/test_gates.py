"""Gates through the command line: what each says of traces whose answer is known, its exit code and its JUnit file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from commandline import Run
from makers import Row, write_trace
from reference import BLOCK_ALL

from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.words import parse_duration
from sigwindow.capture import Capture
from sigwindow.probes.events import CLONE_THREAD, DISPOSITION_HANDLER
from sigwindow.probes.signals import SA_ONSTACK, number, word_of
from sigwindow.probes.traceinfo import TraceInfo

PROF = number("PROF")
READY_NS = 30_000  # from birth
END = Row(10**9, "mark", comm="end")
LOST = Row(999_000_000, "lost", mask=1, flags=7)
GATES = [["--fail-on", gate] for gate in ("exposed", "hit", "critical", "lossy")]
GATES += [["--max-exposure", "1s"], ["--fail-on", "hit", "--max-exposure", "1s"]]


def threads(verdict: str, count: int = 1, first_ns: int = 1_000_000) -> list[Row]:
    """Threads of one verdict; the exposed ones are exposed until they are ready."""
    rows = []
    for place in range(count):
        born_ns, tid = first_ns + 100_000 * place, 101 + place
        mask = BLOCK_ALL if verdict == "masked" else 0
        handled = 0 if verdict == "unhandled" else word_of([PROF])
        rows.append(Row(born_ns, "born", 100, tid, mask=mask, handled=handled, peer=100, flags=CLONE_THREAD))
        if verdict in ("hit", "critical"):
            flags = SA_ONSTACK if verdict == "critical" else 0
            delivery = Row(born_ns + 1_000, "deliver", 100, tid, signal=PROF, disposition=DISPOSITION_HANDLER)
            rows.append(delivery._replace(sa_flags=flags))
        if verdict != "unready":
            rows.append(Row(born_ns + READY_NS, "altstack", 100, tid, mask=mask, altstack=True))
        rows.append(Row(born_ns + 2 * READY_NS, "exit", 100, tid, mask=mask, altstack=verdict != "unready"))
    return rows


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a trace file."""

    def write(name: str, rows: Sequence[Row]) -> Path:
        in_order = sorted(rows, key=lambda row: row.time_ns)
        return write_trace(tmp_path / f"{name}.arrows", in_order)

    return write


Write = Callable[[str, Sequence[Row]], Path]


@pytest.mark.parametrize(
    ("verdict", "codes"),
    [
        ("unhandled", (0, 0, 0)),
        ("masked", (0, 0, 0)),
        ("exposed", (1, 0, 0)),
        ("hit", (1, 1, 0)),
        ("critical", (1, 1, 1)),
    ],
)
def test_a_gate_fails_at_its_verdict_or_a_worse_one(
    sigwindow: Run, write: Write, verdict: str, codes: tuple[int, ...]
) -> None:
    trace = write("t", [*threads("masked", 2), *threads(verdict, 3, first_ns=50_000_000), END])
    for gate, code in zip(("exposed", "hit", "critical"), codes, strict=True):
        done = sigwindow("analyze", trace, "--fail-on", gate)
        worse = "" if gate == "critical" else " or worse"
        told = f"sigwindow: {trace}: gate {gate} failed: 3 of 5 threads are {gate}{worse}\n"
        assert (done.code, done.err) == (code, told if code else "")
    assert sigwindow("analyze", trace, "--fail-on", "lossy").code == 0


@pytest.mark.parametrize(
    ("verdict", "longest", "code"),
    [
        ("exposed", "20us", 1),
        ("exposed", "29999ns", 1),
        ("exposed", "0", 1),
        ("exposed", "30us", 0),
        ("exposed", "0.03 ms", 0),
        ("exposed", "1s", 0),
        ("masked", "0", 0),
        ("unready", "20us", 0),  # exposed for longer, but not a ready thread
    ],
)
def test_the_longest_exposure(sigwindow: Run, write: Write, verdict: str, longest: str, code: int) -> None:
    trace = write("t", [*threads(verdict), END])
    done = sigwindow("analyze", trace, "--ready", "altstack", "--max-exposure", longest)
    assert done.code == code
    assert ("gate max-exposure failed: a thread was exposed for 30 µs, and " in done.err) == bool(code)


def test_gates_obey_the_policy_and_the_signals(sigwindow: Run, write: Write) -> None:
    trace = write("t", [*threads("critical"), END])
    assert sigwindow("analyze", trace, "--fail-on", "exposed", "--signals", "USR1").code == 0
    assert sigwindow("analyze", trace, "--max-exposure", "25us", "--signals", "PROF").code == 1


@pytest.mark.parametrize("gate", GATES, ids=" ".join)
@pytest.mark.parametrize("missing", ["lossy", "cut"])
def test_a_trace_with_something_missing_never_passes(
    sigwindow: Run, write: Write, gate: list[str], missing: str
) -> None:
    rows = [*threads("masked"), LOST, END] if missing == "lossy" else threads("masked")
    trace = write(missing, rows)
    done = sigwindow("analyze", trace, *gate, "--format", "json")
    why = "7 events were lost" if missing == "lossy" else "the trace has no end"
    assert done.code == 4
    assert done.err.count(why) == done.err.count("can't be answered") == len(gate) // 2
    assert sigwindow("analyze", trace).code == 0


def test_a_file_that_is_cut_never_passes(sigwindow: Run, write: Write) -> None:
    trace = write("t", [*threads("masked", 500), END])
    assert sigwindow("analyze", trace, "--fail-on", "exposed").code == 0
    whole = trace.read_bytes()
    for share in (0.5, 0.9, 0.99):
        trace.write_bytes(whole[: int(len(whole) * share)])
        assert sigwindow("analyze", trace, "--fail-on", "exposed").code == 4


@pytest.mark.parametrize("gate", GATES, ids=" ".join)
def test_a_gate_over_nothing_never_passes(sigwindow: Run, write: Write, gate: list[str]) -> None:
    nothing, three = write("nothing", [END]), write("three", [*threads("masked", 3), END])
    done = sigwindow("analyze", nothing, *gate)
    assert done.code == 4
    assert done.err.count("can't be answered: no thread was born") == len(gate) // 2
    assert sigwindow("analyze", nothing, *gate, "--min-threads", 0).code == 0
    assert sigwindow("analyze", three, *gate).code == 0
    assert sigwindow("analyze", three, *gate, "--min-threads", 3).code == 0
    few = sigwindow("analyze", three, *gate, "--min-threads", 4)
    assert (few.code, few.err.count("only 3 threads born, and --min-threads asks for 4")) == (4, len(gate) // 2)
    assert sigwindow("analyze", three, nothing, *gate).code == 4


def test_too_few_threads_do_not_excuse_a_bad_one(sigwindow: Run, write: Write) -> None:
    trace = write("t", [*threads("hit", 2), END])
    assert sigwindow("analyze", trace, "--fail-on", "hit", "--min-threads", 9).code == 1


def test_what_was_seen_fails_a_gate_though_more_is_missing(sigwindow: Run, write: Write) -> None:
    assert sigwindow("analyze", write("l", [*threads("hit"), LOST, END]), "--fail-on", "hit").code == 1
    assert sigwindow("analyze", write("c", threads("hit")), "--fail-on", "hit").code == 1


def test_one_failing_gate_outweighs_a_blind_one(sigwindow: Run, write: Write) -> None:
    lossy = write("lossy", [*threads("masked"), LOST, END])
    bad = write("bad", [*threads("exposed"), END])
    assert sigwindow("analyze", lossy, bad, "--fail-on", "exposed").code == 1
    assert sigwindow("analyze", lossy, bad, "--fail-on", "hit").code == 4


@pytest.mark.parametrize(
    ("base", "new", "code"),
    [
        (threads("masked", 40), threads("exposed", 40), 1),
        (threads("exposed", 40), threads("critical", 40), 1),
        (threads("exposed", 40), threads("masked", 40), 0),
        (threads("exposed", 40), threads("exposed", 40), 0),
        (threads("masked", 40), [*threads("masked", 40), LOST], 4),
        ([*threads("masked", 40), LOST], threads("masked", 40), 4),
        (threads("masked", 40), [*threads("exposed", 40), LOST], 1),
        ([], threads("exposed", 40), 4),
        (threads("masked", 40), [], 4),
    ],
    ids=["worse", "much worse", "better", "same", "lossy new", "lossy base", "worse and lossy", "no base", "no new"],
)
def test_regression(sigwindow: Run, write: Write, base: list[Row], new: list[Row], code: int, tmp_path: Path) -> None:
    traces = write("base", [*base, END]), write("new", [*new, END])
    done = sigwindow("compare", *traces, "--fail-on", "regression", "--junit", tmp_path / "j.xml")
    assert done.code == code
    assert sigwindow("compare", *traces).code == 0
    told = {0: "", 1: "gate regression failed: ", 4: "gate regression can't be answered: "}[code]
    assert done.err.startswith(f"sigwindow: {traces[1]}: {told}" if told else "")
    assert len(done.err.splitlines()) == (code != 0)
    [case] = ElementTree.parse(tmp_path / "j.xml").getroot().iter("testcase")
    assert [child.tag for child in case] == {0: [], 1: ["failure"], 4: ["error"]}[code]


def test_the_gates_of_compare_judge_the_new_trace(sigwindow: Run, write: Write) -> None:
    good, bad = write("good", [*threads("masked", 5), END]), write("bad", [*threads("exposed", 5), END])
    assert sigwindow("compare", good, bad, "--fail-on", "exposed").code == 1
    assert sigwindow("compare", bad, good, "--fail-on", "exposed").code == 0
    assert sigwindow("compare", good, bad, "--max-exposure", "20us").code == 1
    assert sigwindow("compare", good, write("cut", threads("masked", 5)), "--fail-on", "exposed").code == 4


def test_junit(sigwindow: Run, write: Write, tmp_path: Path) -> None:
    bad = write("bad", [*threads("hit", 2), END])
    good = write("good", [*threads("masked"), END])
    lossy = write("lossy", [*threads("masked"), LOST, END])
    broken = tmp_path / "broken.arrows"
    broken.write_bytes(b"no trace")
    gates = ("--fail-on", "hit", "--max-exposure", "20us", "--junit", tmp_path / "junit.xml")
    assert sigwindow("analyze", bad, broken, good, lossy, *gates).code == 1

    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    [suite] = root
    counts = {"tests": "7", "failures": "2", "errors": "3"}
    assert (root.tag, root.attrib) == ("testsuites", counts)
    assert (suite.tag, suite.attrib) == ("testsuite", {"name": "sigwindow", **counts})
    found = [(c.get("classname"), c.get("name"), [(e.tag, e.get("message")) for e in c]) for c in suite]
    lost = [("error", "7 events were lost, and nobody knows what they told")]
    assert found[:-1] == [
        (str(bad), "hit", [("failure", "2 of 2 threads are hit or worse")]),
        (str(bad), "max-exposure", [("failure", "a thread was exposed for 30 µs, and 20 µs are allowed")]),
        (str(good), "hit", []),
        (str(good), "max-exposure", []),
        (str(lossy), "hit", lost),
        (str(lossy), "max-exposure", lost),
    ]
    classname, name, [(tag, message)] = found[-1]
    assert (classname, name, tag) == (str(broken), "readable", "error")
    assert message is not None
    assert message.startswith(f"{broken} is not a trace")


def test_a_junit_file_is_never_overwritten_unasked(sigwindow: Run, write: Write, tmp_path: Path) -> None:
    trace = write("t", [*threads("exposed"), END])
    junit = tmp_path / "junit.xml"
    junit.write_text("mine")
    options = ("analyze", trace, "--fail-on", "exposed", "--junit", junit)
    done = sigwindow(*options)
    assert (done.code, junit.read_text()) == (2, "mine")
    assert f"{junit} exists" in done.err
    assert sigwindow(*options, "--force").code == 1
    assert ElementTree.parse(junit).getroot().get("failures") == "1"


@pytest.mark.parametrize("text", ["", "20", "us", "-1us", "+1us", "1e3us", "20 minutes", "nan", "20us 5us", "1.us"])
def test_a_bad_duration_is_a_usage_error(sigwindow: Run, write: Write, text: str) -> None:
    done = sigwindow("analyze", write("t", [*threads("masked"), END]), f"--max-exposure={text}")
    told = f"sigwindow: bad duration {text!r}: give a number and ns, us, ms, s, m, h or d, as in 20us\n"
    assert done == (2, "", told)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("20us", 20_000),
        ("1.5ms", 1_500_000),
        (" 2 s ", 2 * 10**9),
        ("7ns", 7),
        ("0.4ns", 0),
        ("20 µs", 20_000),
    ],
)
def test_durations(text: str, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize(
    "options",
    [
        ("--fail-on", "regression"),
        ("--fail-on", "sometimes"),
        ("--junit", "never-written.xml"),
        ("--min-threads", "1"),
    ],
    ids=" ".join,
)
def test_gates_that_make_no_sense_are_usage_errors(sigwindow: Run, write: Write, options: tuple[str, ...]) -> None:
    done = sigwindow("analyze", write("t", [*threads("masked"), END]), *options)
    assert done.code == 2
    assert options[0] in done.err
    assert not Path("never-written.xml").exists()


@pytest.mark.parametrize(
    "wrong", [["--json", "there"], ["--fail-on", "hit", "--junit", "there"], ["--max-exposure", "long"]]
)
def test_what_is_wrong_is_told_before_anything_is_run(sigwindow: Run, tmp_path: Path, wrong: list[str]) -> None:
    there, marker = tmp_path / "there", tmp_path / "marker"
    there.write_text("an old file")
    words = [str(there) if word == "there" else word for word in wrong]
    done = sigwindow("run", "--no-trace", *words, "--", "touch", marker)
    assert done.code == 2
    assert "exists" in done.err or "bad duration" in done.err
    assert not marker.exists()
    assert there.read_text() == "an old file"


NOTHING = ("--fail-on", "hit", "--min-threads", "0")  # a gate that is open where no thread is born


@pytest.mark.live
@pytest.mark.parametrize(
    ("options", "script", "code"),
    [
        (NOTHING, "exit 0", 0),
        (NOTHING, "exit 7", 7),
        (NOTHING, "kill -SEGV $$", 128 + 11),
        (("--max-exposure", "1s", "--min-threads", "0"), "exit 7", 7),
        (("--fail-on", "hit"), "exit 0", 4),  # nothing was born
        (("--fail-on", "hit"), "exit 3", 4),  # and that is worse than the command's status
        (("--fail-on", "hit"), "exit 5", 5),
        ((*NOTHING, "--no-exit-code"), "exit 7", 0),
        (("--fail-on", "hit", "--no-exit-code"), "exit 7", 4),
        ((), "exit 7", 0),
        (("--exit-code",), "exit 7", 7),
        (("--no-exit-code",), "exit 7", 0),
    ],
)
def test_a_gated_run_fails_with_its_command(
    sigwindow: Run, tmp_path: Path, options: tuple[str, ...], script: str, code: int
) -> None:
    junit = tmp_path / "j.xml"
    gated = "--fail-on" in options or "--max-exposure" in options
    to_file = ("--junit", junit) if gated else ()
    done = sigwindow("run", "--no-trace", *options, *to_file, "--", "sh", "-c", script)
    assert done.code == code
    ending = "ended by SIGSEGV" if "SEGV" in script else f"exited with {script[-1]}"
    assert f"[sigwindow] sh {ending}\n" in done.err
    told = gated and "--no-exit-code" not in options
    assert (f"gate command failed: sh {ending}" in done.err) == (told and script != "exit 0")
    if gated:
        cases = {case.get("name"): case for case in ElementTree.parse(junit).getroot().iter("testcase")}
        assert ("command" in cases) == told
        if told:
            failures = [(child.tag, child.get("message")) for child in cases["command"]]
            assert failures == ([] if script == "exit 0" else [("failure", f"sh {ending}")])


@pytest.mark.live
def test_junit_alone_tells_of_the_command(sigwindow: Run, tmp_path: Path) -> None:
    junit = tmp_path / "j.xml"
    options = ("run", "--no-trace", "--junit", junit, "--force")
    assert sigwindow(*options, "--", "sh", "-c", "exit 3").code == 3
    assert ElementTree.parse(junit).getroot().attrib == {"tests": "1", "failures": "1", "errors": "0"}
    assert sigwindow(*options, "--", "true").code == 0
    assert ElementTree.parse(junit).getroot().attrib == {"tests": "1", "failures": "0", "errors": "0"}
    assert sigwindow(*options, "--no-exit-code", "--", "true").code == 2


@pytest.mark.parametrize(
    ("system", "status", "ending"),
    [
        ("Linux", 128 + 11, "ended by SIGSEGV"),
        ("Linux", 128 + 30, "ended by SIGPWR"),
        ("FreeBSD", 128 + 30, "ended by SIGUSR1"),
        ("Linux", 128, "exited with 128"),
        ("Linux", 255, "exited with 255"),
        ("Linux", 0, "exited with 0"),
    ],
)
def test_a_signal_has_the_name_of_this_system(
    monkeypatch: pytest.MonkeyPatch, system: str, status: int, ending: str
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    captured = Capture(Windows().result(), TraceInfo(), status, None)
    assert captured.ending == ending
