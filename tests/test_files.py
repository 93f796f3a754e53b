"""What is written: whole or not at all, never over what is read, and devices and pipes as they are."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from commandline import Run
from needs import needs_root

import sigwindow as package
from sigwindow.collector import files
from sigwindow.collector.strace import log as strace
from sigwindow.probes.errors import InputError, UsageError

ROOT = Path(__file__).parent.parent
TRACE = ROOT / "notebooks" / "traces" / "late.arrows"
LOG = ROOT / "tests" / "strace" / "newosproc-broken.log"
FAMILY = ROOT / "tests" / "strace"
SIGWINDOW = [sys.executable, "-m", "sigwindow"]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file that is there already."""
    path = tmp_path / "old"
    path.write_text("old")
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_old_file_stays_until_the_new_one_is_complete(old: Path) -> None:
    with files.replacing(old, force=True) as file:
        file.write(b"new")
        file.flush()
        assert old.read_text() == "old"
        (beside,) = names(old.parent) - {"old"}
        assert not beside.endswith((".arrows", ".parquet"))  # a folder is read by these
    assert old.read_text() == "new"
    assert names(old.parent) == {"old"}


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("name", ["old", "new"])
def test_a_failure_leaves_what_was_there(old: Path, name: str, error: type[BaseException]) -> None:
    block = files.replacing(old.with_name(name), force=True)
    block.__enter__().write(b"half")
    assert block.__exit__(error, error(), None) is not True
    assert names(old.parent) == {"old"}
    assert old.read_text() == "old"


def test_nothing_that_exists_is_replaced_without_force(old: Path) -> None:
    for write in (files.replacing(old).__enter__, lambda: files.growing(old)):
        with pytest.raises(UsageError, match="--force"):
            write()
    (old.parent / "nowhere").symlink_to("missing")
    with pytest.raises(UsageError, match="--force"):
        files.growing(old.parent / "nowhere")
    assert old.read_text() == "old"


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_what_appears_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "t"
    with files.replacing(path) as file:
        file.write(b"fine")
    assert path.read_bytes() == b"fine"
    path.unlink()
    with pytest.raises(UsageError, match="exists"), files.replacing(path) as file:
        path.write_text("theirs")
    assert path.read_text() == "theirs"
    assert names(tmp_path) == {"t"}


def test_a_live_trace_is_at_its_place_at_once(old: Path) -> None:
    with files.growing(old, force=True) as file:
        assert old.read_bytes() == b""
        file.write(b"first")
        file.flush()
        assert old.read_bytes() == b"first"
    assert names(old.parent) == {"old"}


@pytest.mark.parametrize("live", [True, False])
def test_a_link_is_replaced_and_not_followed(old: Path, live: bool) -> None:
    link = old.with_name("link")
    link.symlink_to(old)
    with files.growing(link, force=True) if live else files.replacing(link, force=True) as file:
        file.write(b"new")
    assert (old.read_text(), link.read_text()) == ("old", "new")
    assert not link.is_symlink()


@pytest.mark.parametrize("live", [True, False])
def test_under_sudo_a_file_belongs_to_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, live: bool) -> None:
    needs_root()
    monkeypatch.setenv("SUDO_UID", "65534")
    monkeypatch.setenv("SUDO_GID", "65533")
    path = tmp_path / "t"
    with files.growing(path) if live else files.replacing(path) as file:
        file.write(b"")
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65533)


def test_what_can_t_be_written_is_told_before_the_work(tmp_path: Path, old: Path) -> None:
    for path, why in (
        (tmp_path, "it is a folder"),
        (tmp_path / "none" / "t", "is no folder"),
        (old / "t", "is no folder"),
        (old, "--force"),
    ):
        with pytest.raises(UsageError, match=why):
            files.check([path], force=False)
    files.check([tmp_path / "new", Path("/dev/null"), Path("/dev/null"), Path("/dev/stdout")], force=False)
    files.check([old], force=True)
    with pytest.raises(UsageError, match="can't write /proc/t: "):
        files.growing(Path("/proc/t"))
    assert names(tmp_path) == {"old"}


# The commands that read traces and write files, with OUT for the output.
WRITING = {
    "analyze": "analyze IN -o OUT",
    "analyze json": "analyze IN --format json -o OUT",
    "analyze csv": "analyze IN --format csv -o OUT",
    "analyze parquet": "analyze IN --format parquet -o OUT",
    "analyze --json": "analyze IN --json OUT",
    "analyze --junit": "analyze IN --fail-on lossy --junit OUT",
    "analyze a folder": "analyze FOLDER -o OUT",
    "analyze a URL": "analyze file://IN -o OUT",
    "report": "report IN -o OUT",
    "plot": "plot ecdf IN -o OUT",
    "plot compare": "plot compare OTHER IN -o OUT",
    "compare --json": "compare OTHER IN --json OUT",
    "compare --junit": "compare IN OTHER --fail-on hit --junit OUT",
    "import": "import IN -o OUT",
    "import --json": "import IN -o NEW --json OUT",
    "import --junit": "import IN -o NEW --fail-on hit --junit OUT",
    "import --stderr": "import LOG --stderr IN -o OUT",
    "import -ff": "import IN.1 -o OUT",
}
LINKS: dict[str, Callable[[Path, Path], object]] = {
    "the name": lambda of, link: None,
    "another name": lambda of, link: None,
    "a symbolic link": lambda of, link: link.symlink_to(of),
    "a hard link": lambda of, link: link.hardlink_to(of),
}


@pytest.fixture
def words(tmp_path: Path) -> Callable[..., list[object]]:
    """Makes a command of WRITING, whose input `in.png` is the output, too, by the link of that name."""

    def words(command: str, link: str) -> list[object]:
        folder = tmp_path / "in"
        folder.mkdir()
        given = folder / "in.png"
        shutil.copy(LOG if command.startswith("import IN") else TRACE, given)
        if command.startswith("import IN.1"):
            for log in FAMILY.glob("exec.2047*"):
                shutil.copy(log, folder / f"in.{log.suffix[-1]}")
            given = folder / "in.2"
        if "FOLDER" in command:
            given = given.rename(folder / "in.arrows")
        out = given if link == "the name" else folder / ".." / "in" / given.name
        if "link" in link:
            out = tmp_path / "link.png"
            LINKS[link](given, out)
        named = {"IN.1": folder / "in.1", "IN": given, "file://IN": f"file://{given}", "OUT": out, "FOLDER": folder}
        named |= {"OTHER": TRACE, "LOG": LOG, "NEW": tmp_path / "new"}
        return [named.get(word, word) for word in command.split()]

    return words


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("command", WRITING.values(), ids=WRITING.keys())
def test_an_output_is_never_an_input(
    sigwindow: Run, words: Callable[..., list[object]], tmp_path: Path, command: str, link: str
) -> None:
    arguments = words(command, link)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = sigwindow(*arguments, "--force")
    assert (done.code, done.out) == (2, "")
    assert "the same file as the input" in done.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "command",
    [
        "analyze IN --json a --format json -o ./a",
        "analyze IN --json a --fail-on hit --junit a",
        "compare IN IN --json a --fail-on hit --junit link",
        "import LOG -o a --json ./a",
        "run -o a --json ./a -- true",
        "attach 1 --fail-on hit --junit link -o a",
    ],
)
def test_two_outputs_are_two_files(
    sigwindow: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("a")
    arguments = [{"IN": TRACE, "LOG": LOG}.get(word, word) for word in command.split()]
    place = arguments.index("--") if "--" in arguments else len(arguments)
    done = sigwindow(*arguments[:place], "--force", *arguments[place:])
    assert (done.code, done.out) == (2, "")
    assert "the same file as the output a" in done.err
    assert names(tmp_path) == {"link"}


def test_a_report_by_python_is_no_source(tmp_path: Path) -> None:
    path = Path(shutil.copy(TRACE, tmp_path / "t.arrows"))
    with pytest.raises(UsageError, match="the same file as the input"):
        package.read(path).report(path, force=True)
    assert path.read_bytes() == TRACE.read_bytes()


@contextmanager
def full_disk() -> Iterator[None]:
    """Makes the disk full, as a limit of a file's size does it: a write is cut short, and the next one fails.

    Only for as long as it must: what runs the tests may write into a file, too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "command",
    [
        "report IN -o OUT",
        "plot ecdf IN -o OUT",
        "import LOG -o OUT",
        "analyze IN --format csv -o OUT",
        "analyze IN --format parquet -o OUT",
        "analyze IN --json OUT",
    ],
)
def test_a_full_disk_leaves_the_old_file(sigwindow: Run, old: Path, command: str) -> None:
    out = old.rename(old.with_suffix(".svg"))

    def arguments(out: Path) -> list[object]:
        return [{"IN": TRACE, "LOG": LOG, "OUT": out}.get(word, word) for word in command.split()]

    assert sigwindow(*arguments(out.with_name("a.svg"))).code == 0  # and what is compiled is in its cache
    with full_disk():
        done = sigwindow(*arguments(out), "--force")
    assert (done.code, done.err) == (2, f"sigwindow: can't write {out}: File too large\n")
    assert out.read_text() == "old"
    assert names(out.parent) == {out.name, "a.svg"}


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (InputError("the log is damaged"), 4)])
def test_an_import_that_ends_early_leaves_the_old_trace(
    sigwindow: Run, old: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    whole = strace.Log.batches

    def some(log: strace.Log) -> Iterator[pa.RecordBatch]:
        yield next(whole(log))
        raise error

    monkeypatch.setattr(strace.Log, "batches", some)
    assert sigwindow("import", LOG, "-o", old, "--force").code == code
    assert old.read_text() == "old"
    assert names(old.parent) == {"old"}


BLOCKED = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background has it ignored
from sigwindow.__main__ import main
from sigwindow.collector.strace import log
whole = log.Log.batches
def batches(self):
    yield next(whole(self))
    print("begun", flush=True)
    time.sleep(60)
log.Log.batches = batches
main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_the_old_file_and_no_litter(old: Path, number: signal.Signals, code: int) -> None:
    words: list[str | Path] = [sys.executable, "-c", BLOCKED, "import", LOG, "-o", old, "--force"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"begun\n"
        assert len(names(old.parent)) == 2
        process.send_signal(number)
    assert process.returncode == code
    assert names(old.parent) == {"old"}
    assert old.read_text() == "old"


def test_a_pipe_without_a_reader_silences_nothing_else(sigwindow: Run) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = sigwindow("analyze", TRACE, "--json", f"/dev/fd/{writer}", "--fail-on", "exposed")
    finally:
        os.close(writer)
    assert done.code == 1
    assert "gate exposed failed" in done.err


def test_nothing_else_opens_a_file_to_write() -> None:
    """In one home only it can be whole or not at all."""
    writes = re.compile(r"""write_text|write_bytes|os\.open\(|open\(.*["'][wax]b?["']|os\.replace|NamedTemporaryFile""")
    found = {
        str(path.relative_to(ROOT))
        for part in ("analysis", "collector", "sigwindow")
        for path in (ROOT / part).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if writes.search(line) and "os.devnull" not in line
    }
    assert found == {"collector/files.py"}


@pytest.mark.parametrize("form", ["json", "csv", "parquet"])
def test_devices_and_pipes_are_written_as_they_are(sigwindow: Run, tmp_path: Path, form: str) -> None:
    sigwindow("analyze", TRACE, "--format", form, "-o", tmp_path / "file")
    expected = (tmp_path / "file").read_bytes()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    assert sigwindow("analyze", TRACE, "--format", form, "-o", fifo).code == 0
    reader.join()
    assert got == [expected]
    assert fifo.is_fifo()
    assert sigwindow("analyze", TRACE, "--format", form, "-o", "/dev/null", "--force").code == 0
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("force", ["", "--force"])
def test_streams_of_the_shell(tmp_path: Path, force: str) -> None:
    """Process substitution, and a standard output that is a file: what it has already stays."""
    environment = {**os.environ, "SIGWINDOW": " ".join(SIGWINDOW), "TRACE": str(TRACE), "FORCE": force}
    script = """
    $SIGWINDOW analyze "$TRACE" --format json -o plain.json
    $SIGWINDOW analyze "$TRACE" --json >(cat > substituted.json) $FORCE > /dev/null
    (echo before; $SIGWINDOW analyze "$TRACE" --format json -o /dev/stdout $FORCE; echo after) > redirected.json
    $SIGWINDOW analyze "$TRACE" --format json -o /dev/fd/7 $FORCE 7> numbered.json
    wait
    """
    subprocess.run(["bash", "-ec", script], env=environment, cwd=tmp_path, check=True)
    plain, *others = [(tmp_path / f"{name}.json").read_text() for name in ("plain", "substituted", "numbered")]
    assert others == [plain, plain]
    assert (tmp_path / "redirected.json").read_text() == f"before\n{plain}after\n"
    assert Path("/dev/stdout").is_symlink()


def test_the_trace_that_nobody_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="working directory"):
        files.last_kept()
    first, second = files.kept_name("a b/../\x1b[2J$(x)", 7), files.kept_name("\u202e", 8)
    assert str(first).startswith("sigwindow-a_b_.._2J_x-7-")
    assert str(second).startswith("sigwindow-process-8-")
    for age_s, path in enumerate((second, first, Path("other.arrows"))):
        path.touch()
        os.utime(path, (age_s, age_s))
    assert files.last_kept() == first


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the working directory, an older trace that was kept, and the last one, which is returned by its name."""
    monkeypatch.chdir(tmp_path)
    for age_s, (name, comm) in enumerate((("node", "older"), ("late", "last"))):
        path = files.kept_name(comm, 7)
        shutil.copy(ROOT / "notebooks" / "traces" / f"{name}.arrows", path)
        os.utime(path, (age_s, age_s))
    return path


@pytest.mark.parametrize(
    ("command", "out"),
    [
        ("analyze TRACE --format csv", None),
        ("analyze TRACE --json OUT", "out"),
        ("report -o OUT TRACE", "out.html"),
        ("plot ecdf TRACE -o OUT", "out.svg"),
        ("plot compare BASE TRACE -o OUT", "out.svg"),
        ("compare BASE TRACE --json OUT", "out"),
    ],
)
def test_the_last_trace_need_not_be_named(sigwindow: Run, kept: Path, command: str, out: str | None) -> None:
    def answer(trace: str) -> tuple[object, bytes]:
        words = [{"TRACE": trace, "BASE": str(TRACE), "OUT": out}.get(word, word) for word in command.split()]
        done = sigwindow(*words)
        assert done.code == 0
        return done, Path(out).read_bytes() if out else b""

    last = answer("--last")
    if out:
        Path(out).unlink()
    assert answer(str(kept))[0] == last[0]
    if out and not out.endswith(".svg"):  # a figure has the time in it
        assert Path(out).read_bytes() == last[1]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("analyze", "name a trace, or give --last"),
        ("analyze other.arrows --last", "give it, or name the trace"),
        ("report -o out", "name a trace, or give --last"),
        ("report -o out other.arrows --last", "give it, or name the trace"),
        ("plot ecdf -o out.svg", "name a trace, or give --last"),
        ("plot ecdf other.arrows --last -o out.svg", "give it, or name the trace"),
        ("plot compare --last -o out.svg", "give it, or name the trace"),
        ("plot compare other.arrows -o out.svg", "BASE and --last"),
        ("compare other.arrows", "BASE and --last"),
        ("compare other.arrows more.arrows --last", "give it, or name the trace"),
        ("analyze --last", "no trace of an earlier run or attach"),
    ],
)
def test_the_last_trace_and_others(
    sigwindow: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = sigwindow(*command.split())
    assert (done.code, done.out) == (2, "")
    assert why in done.err
    assert not names(tmp_path)
