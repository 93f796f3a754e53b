"""The tracing scripts themselves: what they print is in the protocol, and a D compiler accepts the D among them.

The FreeBSD script is checked on Linux the shim way: the kernel types that it uses, as FreeBSD declares them, stand
before it, and DTrace 2 checks every member against them. `make dtrace` unpacks one where the distribution has none.
"""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import pytest
from needs import dtrace_command, needs, needs_root

from sigwindow.collector import lines
from sigwindow.probes import events

SCRIPTS_FOLDER = Path(events.__file__).parent / "scripts"
SCRIPTS = ("window.d", "window-linux.d", "window.bt")

# sys/sys/{_sigset,signal,signalvar,proc,ucred,jail}.h: the members that window.d uses, by their names and types there.
FREEBSD = """
struct __sigset { uint32_t __bits[4]; };
struct fb_siginfo { int si_signo; int si_errno; int si_code; };
struct ksiginfo { void *l_next; void *l_prev; struct fb_siginfo ksi_info; };
struct sigacts { uintptr_t ps_sigact[128]; struct __sigset ps_catchmask[128]; struct __sigset ps_sigonstack;
    struct __sigset ps_sigintr; struct __sigset ps_sigreset; struct __sigset ps_signodefer;
    struct __sigset ps_siginfo; struct __sigset ps_sigignore; struct __sigset ps_sigcatch; };
struct prison { char pr_hostname[256]; char pr_osrelease[32]; };
struct ucred { struct prison *cr_prison; };
struct proc { int p_pid; struct sigacts *p_sigacts; char p_comm[20]; };
struct thread { struct proc *td_proc; int td_tid; int td_pflags; struct ucred *td_ucred; struct __sigset td_sigmask;
    char td_name[20]; };
"""


def compiler() -> list[str]:
    """The D compiler's command."""
    needs_root()  # even to compile
    command = dtrace_command()
    needs("dtrace", bool(command), "make dtrace")
    return command


def compile_script(text: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Compile a D script, enabling nothing."""
    script = tmp_path / "script.d"
    script.write_text(text.removeprefix("#!/usr/sbin/dtrace -s\n"))
    command = [*compiler(), "-Z", "-e", "-s", str(script), "4242"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def freebsd_script() -> str:
    """window.d, with FreeBSD's types before it where the kernel has none of them."""
    text = (SCRIPTS_FOLDER / "window.d").read_text()
    return text if platform.system() == "FreeBSD" else FREEBSD + text.removeprefix("#!/usr/sbin/dtrace -s\n")


def test_the_freebsd_script_compiles(tmp_path: Path) -> None:
    done = compile_script(freebsd_script(), tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "member", ["td_sigmask", "td_pflags", "ps_sigcatch", "ps_catchmask", "si_signo", "p_comm", "__bits"]
)
def test_a_wrong_member_is_found(member: str, tmp_path: Path) -> None:
    head, _, body = freebsd_script().partition("#pragma")
    wrong = (
        body.replace(f"{member}[", "no_such_member[", 1) if f"{member}[" in body else body.replace(member, "nosuch", 1)
    )
    assert wrong != body
    done = compile_script(f"{head}#pragma{wrong}", tmp_path)
    assert done.returncode != 0
    assert "is not a member of" in done.stderr


def test_the_linux_script_compiles(tmp_path: Path) -> None:
    needs("linux", platform.system() == "Linux", "the script needs Linux's types")
    done = compile_script((SCRIPTS_FOLDER / "window-linux.d").read_text(), tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_line_that_a_script_prints_is_in_the_protocol(script: str) -> None:
    text = (SCRIPTS_FOLDER / script).read_text()
    formats = re.findall(r'printf\("(E .*?)\\n"', text)
    # One value for each kind of number: %d is decimal, %x hexadecimal, %rx bytes of a name.
    printed = [
        re.sub("%(llu|d)", "1", f).replace("%llx", "1f").replace("%rx", r"\x61\x00").replace("%x", "1f")
        for f in formats
    ]
    parser = lines.Parser()
    parser.feed("".join(f"{line}\n" for line in printed).encode())
    assert parser.damaged == 0
    assert parser.events == len(formats)
    kinds = {f.split()[2] for f in formats}
    expected = {
        "snapshot",
        "born",
        "mask",
        "altstack",
        "action",
        "generate",
        "deliver",
        "return",
        "name",
        "exec",
        "exit",
    }
    assert kinds >= expected


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_event_is_counted(script: str) -> None:
    """One `@lines = count()` for each line; an error's line stands for the one that the clause had counted."""
    text = (SCRIPTS_FOLDER / script).read_text()
    printed = text.count('printf("E ')
    assert text.count("@lines = count()") == printed - 1
