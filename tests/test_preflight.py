"""What live tracing needs: bcc, kernel headers, and the checks of `sigwindow doctor`.

Missing things are tested on a fake file system, which starts complete and loses one thing a test.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigwindow.probes import preflight
from sigwindow.probes.bcc import binding, headers
from sigwindow.probes.errors import CannotTraceError
from sigwindow.probes.preflight import Check

ALL_CAPABILITIES = "000001ffffffffff"


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def link(path: Path, target: str | Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def add_bcc(directory: Path, body: str = "class BPF: ...\n") -> None:
    """A package that looks like iovisor's."""
    write(directory / "bcc/__init__.py", body)
    write(directory / "bcc/libbcc.py")
    write(directory / "bcc/version.py", "__version__ = '0.26.0'\n")


def add_headers(tree: Path, release: str, architecture: str = "x86") -> None:
    """The files by which kernel headers are told from other folders."""
    write(tree / "include/generated/utsrelease.h", f'#define UTS_RELEASE "{release}"\n')
    (tree / "arch" / architecture / "include/generated").mkdir(parents=True)


@pytest.fixture(autouse=True)
def _x86_without_headers_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = os.uname_result(("Linux", "host", "6.9.0-test", "#1", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: kernel)
    monkeypatch.delenv(headers.VARIABLE, raising=False)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a machine that has everything."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(sys, "path", [])
    write(tmp_path / "proc/self/status", f"Name:\tpython3\nCapEff:\t{ALL_CAPABILITIES}\nSeccomp:\t0\n")
    link(tmp_path / "proc/self/ns/pid", "pid:[4026531836]")
    link(tmp_path / "proc/self/ns/user", "user:[4026531837]")
    write(tmp_path / "proc/sys/kernel/unprivileged_bpf_disabled", "2\n")
    write(tmp_path / "sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
    write(tmp_path / "sys/kernel/btf/vmlinux")
    for tracepoint in preflight.TRACEPOINTS:
        (tmp_path / "sys/kernel/tracing/events" / tracepoint.replace(":", "/")).mkdir(parents=True)
    add_bcc(tmp_path / "usr/lib/python3/dist-packages")
    (tmp_path / "lib/modules/6.9.0-test/build").mkdir(parents=True)
    return tmp_path


def not_fine(root: Path) -> list[Check]:
    return [check for check in preflight.checks(root, trial=False) if check.state != "fine"]


# bcc


@pytest.fixture
def no_bcc_loaded() -> Iterator[None]:
    """Whatever a test imports as bcc is forgotten after it, and the real one put back."""
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "bcc"}
    for name in before:
        del sys.modules[name]
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "bcc"]:
        del sys.modules[name]
    sys.modules.update(before)


def test_bcc_is_found_behind_an_unrelated_package_of_that_name(tmp_path: Path) -> None:
    write(tmp_path / "venv/bcc/__init__.py", "raise AssertionError('must not be executed')")
    add_bcc(tmp_path / "distribution")

    spec = binding.find([str(tmp_path / "venv"), str(tmp_path / "distribution")])

    assert spec.origin == str(tmp_path / "distribution/bcc/__init__.py")


def test_a_folder_named_bcc_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "bcc").mkdir()
    with pytest.raises(CannotTraceError, match=r"is not installed\. Type: apt-get"):
        binding.find([str(tmp_path)])


def test_the_unrelated_package_is_named_where_only_it_is_there(tmp_path: Path) -> None:
    write(tmp_path / "bcc/__init__.py")
    with pytest.raises(CannotTraceError) as caught:
        binding.find([str(tmp_path)])
    assert str(caught.value) == (
        "iovisor's bcc, which loads the probes, is not installed. Type: apt-get install python3-bpfcc "
        "(Debian, Ubuntu), dnf install python3-bcc (Fedora), pacman -S python-bcc (Arch)\n"
        f"The bcc in {tmp_path}/bcc is another package: PyPI's bcc is about crystallography. "
        "If nothing needs it: pip uninstall bcc"
    )


@pytest.mark.parametrize(
    "directory",
    ["usr/lib/python3/dist-packages", "usr/lib/python3.13/site-packages", "usr/lib64/python3.12/site-packages"],
)
def test_bcc_is_found_in_the_directories_of_each_distribution(tmp_path: Path, directory: str) -> None:
    add_bcc(tmp_path / directory)
    assert str(tmp_path / directory) in binding.search_path(tmp_path)


@pytest.mark.usefixtures("no_bcc_loaded")
def test_nothing_else_of_the_distribution_is_imported(tmp_path: Path) -> None:
    add_bcc(tmp_path, "from .libbcc import lib\nfrom .version import __version__\nclass BPF: ...\n")
    write(tmp_path / "bcc/libbcc.py", "import warnings\nwarnings.warn('old', DeprecationWarning)\nlib = 1\n")
    write(tmp_path / "json.py", "raise AssertionError('shadows the standard library')")
    before = list(sys.path)

    bcc = binding.load([str(tmp_path)])

    assert bcc.__version__ == "0.26.0"
    assert binding.load([]) is bcc
    assert sys.path == before


@pytest.mark.usefixtures("no_bcc_loaded")
def test_a_missing_library_is_reported_and_nothing_half_loaded_stays(tmp_path: Path) -> None:
    add_bcc(tmp_path, "from . import libbcc\n")
    write(tmp_path / "bcc/libbcc.py", "import ctypes\nctypes.CDLL('libbcc-that-is-missing.so.0')\n")

    with pytest.raises(CannotTraceError) as caught:
        binding.load([str(tmp_path)])

    assert str(caught.value).startswith(
        f"bcc in {tmp_path}/bcc/__init__.py can't be loaded (libbcc-that-is-missing.so.0: cannot open shared object"
    )
    assert str(caught.value).endswith(f"Type: {binding.INSTALL}")
    assert not [name for name in sys.modules if name.partition(".")[0] == "bcc"]


def test_compiler_messages_keeps_what_is_written_to_the_descriptor(capfd: pytest.CaptureFixture[str]) -> None:
    with binding.compiler_messages() as log:
        os.write(2, b"error: from clang\n")
        assert log.read_text() == "error: from clang\n"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
    assert not log.exists()


# kernel headers


def test_the_environment_variable_wins(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(headers.VARIABLE, str(machine))
    assert headers.find(machine) == headers.Headers(f"{machine} (BCC_KERNEL_SOURCE)")

    monkeypatch.setenv(headers.VARIABLE, "/no/such/folder")
    with pytest.raises(
        CannotTraceError, match=r"^BCC_KERNEL_SOURCE=/no/such/folder is no directory: correct it or unset it$"
    ):
        headers.find(machine)


def test_the_running_kernels_own_headers_are_left_to_bcc(machine: Path) -> None:
    assert headers.find(machine) == headers.Headers(f"{machine}/lib/modules/6.9.0-test/build")
    with headers.for_bcc(machine):
        assert headers.VARIABLE not in os.environ


@pytest.mark.parametrize(
    "provider", ["sys/kernel/kheaders.tar.xz", "lib/modules/6.9.0-test/kernel/kernel/kheaders.ko.zst"]
)
def test_kheaders_are_left_to_bcc(tmp_path: Path, provider: str) -> None:
    write(tmp_path / provider)
    assert headers.find(tmp_path) == headers.Headers("the kernel's own (kheaders)")


def test_a_dangling_build_link_is_no_headers(tmp_path: Path) -> None:
    link(tmp_path / "lib/modules/6.9.0-test/build", "/usr/src/removed")
    with pytest.raises(CannotTraceError) as caught:
        headers.find(tmp_path)
    assert str(caught.value) == (
        "bcc needs kernel headers, of any version, to compile the probes. Type: "
        "apt-get install linux-headers-amd64 (Debian; arm64: linux-headers-arm64), "
        "apt-get install linux-headers-generic (Ubuntu), dnf install kernel-devel (Fedora), "
        "pacman -S linux-headers (Arch)"
    )


def test_the_newest_headers_of_this_architecture_are_taken(tmp_path: Path) -> None:
    add_headers(tmp_path / "usr/src/linux-headers-6.1.0-9-amd64", "6.1.0-9-amd64")
    add_headers(tmp_path / "usr/src/kernels/6.1.0-56", "6.1.0-56")
    add_headers(tmp_path / "usr/src/linux-headers-7.0.0-arm64", "7.0.0-arm64", "arm64")
    (tmp_path / "usr/src/linux-headers-8.0.0-common").mkdir()

    assert headers.find(tmp_path).layers == (tmp_path / "usr/src/kernels/6.1.0-56",)


def test_complete_headers_of_another_kernel_are_used_in_place(tmp_path: Path) -> None:
    tree = tmp_path / "lib/modules/6.1.0/build"
    add_headers(tree, "6.1.0")
    with headers.for_bcc(tmp_path):
        assert os.environ[headers.VARIABLE] == str(tree)
    assert headers.VARIABLE not in os.environ


def test_debians_two_parts_are_merged_and_the_flavours_own_files_win(tmp_path: Path) -> None:
    flavour, common = (tmp_path / f"usr/src/linux-headers-6.1.0-56-{part}" for part in ("amd64", "common"))
    add_headers(flavour, "6.1.0-56-amd64")
    write(flavour / "Makefile", "include /usr/src/linux-headers-6.1.0-56-common/Makefile\n")
    write(flavour / "include/linux/both.h", "flavour")
    write(common / "Makefile", "all:\n")
    write(common / "include/linux/both.h", "common")
    write(common / "include/linux/sched.h", "common")
    write(common / "arch/x86/include/asm/ptrace.h", "common")
    link(common / "scripts", "/no/such/folder")

    with headers.for_bcc(tmp_path):
        tree = Path(os.environ[headers.VARIABLE])
        assert tree.parent.stat().st_mode & 0o777 == 0o700
        assert (tree / "include/linux/both.h").read_text() == "flavour"
        assert (tree / "include/linux/sched.h").read_text() == "common"
        assert (tree / "arch/x86/include/asm/ptrace.h").read_text() == "common"
        assert (tree / "include/generated").is_symlink()
        assert not (tree / "scripts").is_symlink()

    assert not tree.parent.exists()
    assert headers.VARIABLE not in os.environ


# the checks


def test_a_complete_machine_is_fine(machine: Path) -> None:
    found = preflight.checks(machine, trial=False)
    assert not_fine(machine) == []
    assert [check.name for check in found] == [
        "operating system",
        "privileges",
        "kernel lockdown",
        "pid namespace",
        "bcc",
        "kernel types (BTF)",
        "kernel headers",
        "tracefs",
        *preflight.TRACEPOINTS,
    ]
    assert preflight.can_trace(found)
    preflight.require(preflight.checks(machine, trial=False))


@pytest.mark.parametrize(
    ("system", "detail"),
    [
        ("FreeBSD", "eBPF is Linux's, and this is FreeBSD"),
        ("Darwin", "eBPF is Linux's, and this is Darwin"),
    ],
)
def test_another_system_ends_the_checks(
    machine: Path, monkeypatch: pytest.MonkeyPatch, system: str, detail: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    assert preflight.checks(machine) == [
        Check("operating system", "missing", detail, "trace on Linux; traces can be analysed on any system")
    ]


@pytest.mark.parametrize(
    ("capabilities", "lacking"),
    [
        (0, "CAP_BPF and CAP_PERFMON"),
        (1 << 39, "CAP_PERFMON"),
        (1 << 38, "CAP_BPF"),
    ],
)
def test_missing_capabilities_are_named(machine: Path, capabilities: int, lacking: str) -> None:
    write(machine / "proc/self/status", f"CapEff:\t{capabilities:016x}\n")
    assert not_fine(machine) == [
        Check(
            "privileges",
            "missing",
            f"{lacking} missing, and CAP_SYS_ADMIN, which stands for both (kernel.unprivileged_bpf_disabled = 2)",
            "run sigwindow as root (sudo); a container needs --privileged --pid=host",
        )
    ]


@pytest.mark.parametrize(("capabilities", "detail"), [(1 << 21, "CAP_SYS_ADMIN"), (3 << 38, "CAP_BPF and CAP_PERFMON")])
def test_either_set_of_capabilities_serves(machine: Path, capabilities: int, detail: str) -> None:
    write(machine / "proc/self/status", f"CapEff:\t{capabilities:016x}\n")
    assert Check("privileges", "fine", detail) in preflight.checks(machine, trial=False)


def test_root_in_a_user_namespace_has_no_privileges(machine: Path) -> None:
    link(machine / "proc/self/ns/user", "user:[4026532180]")
    assert not_fine(machine) == [
        Check(
            "privileges",
            "missing",
            "inside a user namespace, where capabilities do not allow BPF",
            "run sigwindow as root (sudo); a container needs --privileged --pid=host",
        )
    ]


def test_lockdown(machine: Path) -> None:
    lockdown = machine / "sys/kernel/security/lockdown"
    write(lockdown, "none integrity [confidentiality]\n")
    assert not_fine(machine) == [
        Check(
            "kernel lockdown",
            "missing",
            "confidentiality: the kernel lets no BPF program read its memory",
            "boot with lockdown=integrity or without lockdown on the kernel's command line",
        )
    ]
    write(lockdown, "none [integrity] confidentiality\n")
    assert not_fine(machine) == []
    lockdown.unlink()
    assert not_fine(machine) == []


def test_a_containers_pid_namespace_hides_the_ids(machine: Path) -> None:
    link(machine / "proc/self/ns/pid", "pid:[4026532179]")
    assert not_fine(machine) == [
        Check(
            "pid namespace",
            "missing",
            "a container's: the probes know processes by the host's ids, which can't be told here",
            "trace from the host, or start the container with --pid=host",
        )
    ]
    with pytest.raises(CannotTraceError, match="--pid=host"):
        preflight.require(preflight.checks(machine, trial=False))


def test_missing_bcc(machine: Path) -> None:
    shutil.rmtree(machine / "usr/lib/python3")
    assert not_fine(machine) == [
        Check(
            "bcc",
            "missing",
            "not found",
            f"iovisor's bcc, which loads the probes, is not installed. Type: {binding.INSTALL}",
        )
    ]


def test_missing_kernel_types(machine: Path) -> None:
    (machine / "sys/kernel/btf/vmlinux").unlink()
    assert not_fine(machine) == [
        Check(
            "kernel types (BTF)",
            "missing",
            f"{machine}/sys/kernel/btf/vmlinux can't be read",
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (Linux 5.8 or newer)",
        )
    ]


def test_missing_headers(machine: Path) -> None:
    shutil.rmtree(machine / "lib/modules")
    assert not_fine(machine) == [
        Check(
            "kernel headers",
            "missing",
            "not found",
            f"bcc needs kernel headers, of any version, to compile the probes. Type: {headers.INSTALL}",
        )
    ]


def test_tracefs_not_mounted(machine: Path) -> None:
    shutil.rmtree(machine / "sys/kernel/tracing/events")
    assert not_fine(machine) == [
        Check("tracefs", "missing", "not mounted", "mount -t tracefs tracefs /sys/kernel/tracing")
    ]


def test_tracefs_below_debugfs_serves(machine: Path) -> None:
    (machine / "sys/kernel/debug").mkdir()
    (machine / "sys/kernel/tracing").rename(machine / "sys/kernel/debug/tracing")
    assert not_fine(machine) == []


def test_tracefs_that_the_user_may_not_read(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracing = machine / "sys/kernel/tracing"
    shutil.rmtree(tracing / "events")  # what an unreadable directory looks like from outside
    monkeypatch.setattr(os, "access", lambda path, mode: path != tracing)
    assert not_fine(machine) == [
        Check(
            "tracefs",
            "missing",
            f"{tracing} can't be read by this user",
            "run sigwindow as root (sudo); a container needs --privileged --pid=host",
        )
    ]


@pytest.mark.parametrize("tracepoint", preflight.TRACEPOINTS)
def test_each_missing_tracepoint_is_named(machine: Path, tracepoint: str) -> None:
    (machine / "sys/kernel/tracing/events" / tracepoint.replace(":", "/")).rmdir()
    option = "CONFIG_FTRACE_SYSCALLS" if tracepoint.startswith("syscalls:") else "CONFIG_TRACEPOINTS"
    assert not_fine(machine) == [
        Check(tracepoint, "missing", "the kernel has no such tracepoint", f"boot a kernel built with {option}=y")
    ]


def test_require_names_everything_that_is_missing(machine: Path) -> None:
    write(machine / "sys/kernel/security/lockdown", "none integrity [confidentiality]\n")
    shutil.rmtree(machine / "sys/kernel/tracing")
    with pytest.raises(CannotTraceError) as caught:
        preflight.require(preflight.checks(machine, trial=False))
    assert str(caught.value) == (
        "tracing is not possible here:\n"
        "  kernel lockdown: confidentiality: the kernel lets no BPF program read its memory\n"
        "    boot with lockdown=integrity or without lockdown on the kernel's command line\n"
        "  tracefs: not mounted\n"
        "    mount -t tracefs tracefs /sys/kernel/tracing"
    )


def test_the_trial_is_left_out_where_something_is_missing(machine: Path) -> None:
    shutil.rmtree(machine / "sys/kernel/tracing")
    assert "trial program" not in [check.name for check in preflight.checks(machine)]


FAKE_BPF = """
import os
class BPF:
    RAW_TRACEPOINT = 17
    def __init__(self, text): {compile}
    def load_func(self, name, kind): {load}
    def cleanup(self): pass
"""
REFUSE = "os.write(2, b'bpf: Failed to load program: Operation not permitted'); raise Exception('Need super-user')"


@pytest.mark.usefixtures("no_bcc_loaded")
@pytest.mark.parametrize(
    ("compile_", "load", "seccomp", "expected"),
    [
        ("pass", "pass", 0, Check("trial program", "fine", "compiled, and loaded into the kernel")),
        (
            "pass",
            REFUSE,
            0,
            Check(
                "trial program",
                "missing",
                "the kernel refused bpf(2): EPERM; likely cause: a security module or the kernel's lockdown",
                "run sigwindow as root (sudo); a container needs --privileged --pid=host",
            ),
        ),
        (
            REFUSE,  # a refused map looks to bcc like a failed compilation
            "pass",
            2,
            Check(
                "trial program",
                "missing",
                "the kernel refused bpf(2): EPERM; likely cause: a seccomp filter is in force here",
                "run sigwindow as root (sudo); a container needs --privileged --pid=host",
            ),
        ),
        (
            "raise Exception('Failed to compile BPF module <text>')",
            "pass",
            0,
            Check(
                "trial program",
                "missing",
                "could not be compiled or loaded: Failed to compile BPF module <text>",
                "the kernel must be Linux 5.8 or newer, and bcc new enough for its headers",
            ),
        ),
    ],
)
def test_the_trials_failures_are_explained(
    machine: Path, compile_: str, load: str, seccomp: int, expected: Check
) -> None:
    add_bcc(machine / "usr/lib/python3/dist-packages", FAKE_BPF.format(compile=compile_, load=load))
    write(machine / "proc/self/status", f"CapEff:\t{ALL_CAPABILITIES}\nSeccomp:\t{seccomp}\n")
    assert preflight.checks(machine)[-1] == expected


@pytest.mark.usefixtures("no_bcc_loaded")
def test_a_bcc_that_can_not_be_loaded_shows_in_the_trial(machine: Path) -> None:
    package = machine / "usr/lib/python3/dist-packages"
    add_bcc(package, "raise OSError('libbcc.so.0: cannot open shared object file')")
    assert preflight.checks(machine)[-1] == Check(
        "trial program",
        "missing",
        "not tried",
        f"bcc in {package}/bcc/__init__.py can't be loaded (libbcc.so.0: cannot open shared object file). "
        f"Type: {binding.INSTALL}",
    )


def test_the_tracepoints_are_those_of_the_bpf_program() -> None:
    source = (Path(preflight.__file__).with_name("bpf") / "window.bpf.c").read_text()
    raw = re.findall(r"^RAW_TRACEPOINT_PROBE\((\w+)\)", source, re.MULTILINE)
    others = re.findall(r"^TRACEPOINT_PROBE\((\w+), (\w+)\)", source, re.MULTILINE)
    assert {name.partition(":")[2] for name in preflight.TRACEPOINTS if not name.startswith("syscalls:")} == set(raw)
    assert {name for name in preflight.TRACEPOINTS if name.startswith("syscalls:")} == {":".join(it) for it in others}


@pytest.mark.live
def test_this_machine_can_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real kernel's name
    assert [check for check in preflight.checks() if check.state != "fine"] == []
