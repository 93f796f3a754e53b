"""What live tracing needs of a machine, checked one thing at a time; nothing on the machine is changed.

fine       there
degraded   tracing works; the detail says what to keep in mind
missing    tracing is not possible; the help says what to type
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .bcc import binding, headers
from .errors import CannotTraceError

State = Literal["fine", "degraded", "missing"]

# What window.bpf.c attaches to (a test compares the two).
TRACEPOINTS = (
    "task:task_newtask",
    "task:task_rename",
    "sched:sched_process_exec",
    "sched:sched_process_exit",
    "sched:sched_process_free",
    "signal:signal_generate",
    "signal:signal_deliver",
    "syscalls:sys_exit_rt_sigprocmask",
    "syscalls:sys_exit_sigaltstack",
    "syscalls:sys_exit_rt_sigaction",
    "syscalls:sys_enter_rt_sigreturn",
)

_CAP_SYS_ADMIN, _CAP_PERFMON, _CAP_BPF = 21, 38, 39  # include/uapi/linux/capability.h
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h
_INITIAL_USER_NAMESPACE = "user:[4026531837]"  # PROC_USER_INIT_INO
_AS_ROOT = "run sigwindow as root (sudo); a container needs --privileged --pid=host"

# What the probes ask of the kernel: a ring buffer (Linux 5.8), a raw tracepoint, reads of kernel memory.
_TRIAL = b"""
#include <uapi/linux/ptrace.h>
BPF_RINGBUF_OUTPUT(trial_events, 1);
int trial(struct bpf_raw_tracepoint_args *ctx)
{
    u64 word = 0;
    bpf_probe_read_kernel(&word, sizeof(word), (void *)ctx->args[0]);
    trial_events.ringbuf_output(&word, sizeof(word), BPF_RB_NO_WAKEUP);
    return 0;
}
"""


@dataclass(frozen=True)
class Check:
    """One requirement: its state, what was found, and what to type where it is not met (else empty)."""

    name: str
    state: State
    detail: str
    help: str = ""


def checks(root: Path = Path("/"), trial: bool = True) -> list[Check]:
    """Check everything that live tracing needs, in the order in which to mend it.

    `root` holds proc, sys, usr and lib. `trial`: if all else is there, also compile and load a tiny BPF program (half a
    second; it is never attached).
    """
    system = _system()
    if system.state == "missing":
        return [system]
    tracefs = _tracefs(root)
    found = [
        system,
        _privileges(root),
        _lockdown(root),
        _pid_namespace(root),
        _binding(root),
        _kernel_types(root),
        _headers(root),
        tracefs,
    ]
    if tracefs.state == "fine":
        found += [_tracepoint(name, Path(tracefs.detail)) for name in TRACEPOINTS]
    if trial and can_trace(found):
        found.append(_trial(root))
    return found


def can_trace(found: Iterable[Check]) -> bool:
    """Whether tracing is possible by these checks."""
    return all(check.state != "missing" for check in found)


def require(found: Iterable[Check]) -> None:
    """Make sure that none of these checks is in the way of tracing.

    Raises CannotTraceError with all that is missing, and what to type for each.
    """
    found = list(found)
    if not can_trace(found):
        raise refusal(found)


def refusal(found: Iterable[Check]) -> CannotTraceError:
    """The error that tells all that is missing, and what to type for each."""
    missing = [check for check in found if check.state == "missing"]
    lines = [f"  {check.name}: {check.detail}" + f"\n    {check.help}" * bool(check.help) for check in missing]
    return CannotTraceError("\n".join(["tracing is not possible here:", *lines]))


def _read(path: Path) -> str:
    """The text of a file of the kernel, empty where it can't be read."""
    with suppress(OSError):
        return path.read_text(errors="replace").strip()
    return ""


def _namespace(root: Path, kind: str) -> str:
    with suppress(OSError):
        return os.readlink(root / "proc/self/ns" / kind)
    return ""


def _system() -> Check:
    name = "operating system"
    system = platform.system()
    if system == "Linux":
        return Check(name, "fine", f"Linux {platform.release()}")
    detail = f"eBPF is Linux's, and this is {system}"
    return Check(name, "missing", detail, "trace on Linux; traces can be analysed on any system")


def _privileges(root: Path) -> Check:
    name = "privileges"
    status = re.search(r"^CapEff:\s*([0-9a-f]+)$", _read(root / "proc/self/status"), re.MULTILINE)
    effective = int(status[1], 16) if status else 0

    def has(capability: int) -> bool:
        return bool(effective >> capability & 1)

    # The kernel asks for these in the first user namespace (capable()), whatever a container's root has.
    if _namespace(root, "user") not in (_INITIAL_USER_NAMESPACE, ""):
        return Check(name, "missing", "inside a user namespace, where capabilities do not allow BPF", _AS_ROOT)
    if has(_CAP_SYS_ADMIN):
        return Check(name, "fine", "CAP_SYS_ADMIN")
    if has(_CAP_BPF) and has(_CAP_PERFMON):
        return Check(name, "fine", "CAP_BPF and CAP_PERFMON")
    lacking = [text for text, bit in (("CAP_BPF", _CAP_BPF), ("CAP_PERFMON", _CAP_PERFMON)) if not has(bit)]
    detail = f"{' and '.join(lacking)} missing, and CAP_SYS_ADMIN, which stands for both"
    unprivileged = _read(root / "proc/sys/kernel/unprivileged_bpf_disabled")
    if unprivileged:
        detail += f" (kernel.unprivileged_bpf_disabled = {unprivileged})"
    return Check(name, "missing", detail, _AS_ROOT)


def _lockdown(root: Path) -> Check:
    name = "kernel lockdown"
    chosen = re.search(r"\[(\w+)\]", _read(root / "sys/kernel/security/lockdown"))
    mode = chosen[1] if chosen else "none"
    # LOCKDOWN_BPF_READ_KERNEL and LOCKDOWN_TRACEFS belong to confidentiality, include/linux/security.h
    if mode == "confidentiality":
        return Check(
            name,
            "missing",
            "confidentiality: the kernel lets no BPF program read its memory",
            "boot with lockdown=integrity or without lockdown on the kernel's command line",
        )
    return Check(name, "fine", mode)


def _pid_namespace(root: Path) -> Check:
    name = "pid namespace"
    if _namespace(root, "pid") in (_INITIAL_PID_NAMESPACE, ""):
        return Check(name, "fine", "the host's")
    return Check(
        name,
        "missing",
        "a container's: the probes know processes by the host's ids, which can't be told here",
        "trace from the host, or start the container with --pid=host",
    )


def _binding(root: Path) -> Check:
    name = "bcc"
    try:
        spec = binding.find(binding.search_path(root))
    except CannotTraceError as error:
        return Check(name, "missing", "not found", str(error))
    package = Path(spec.origin or "").parent
    version = re.search(r"__version__ = ['\"]([^'\"]+)", _read(package / "version.py"))
    return Check(name, "fine", f"{version[1] if version else 'unknown version'} in {package}")


def _kernel_types(root: Path) -> Check:
    name = "kernel types (BTF)"
    btf = root / "sys/kernel/btf/vmlinux"
    if os.access(btf, os.R_OK):
        return Check(name, "fine", str(btf))
    return Check(
        name, "missing", f"{btf} can't be read", "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (Linux 5.8 or newer)"
    )


def _headers(root: Path) -> Check:
    name = "kernel headers"
    try:
        return Check(name, "fine", headers.find(root).name)
    except CannotTraceError as error:
        return Check(name, "missing", "not found", str(error))


def _tracefs(root: Path) -> Check:
    """Where tracefs is; the detail of a fine check is the directory itself."""
    name = "tracefs"
    places = [root / "sys/kernel/tracing", root / "sys/kernel/debug/tracing"]
    for place in places:
        if os.path.isdir(place / "events"):
            return Check(name, "fine", str(place))
    if os.path.isdir(places[0]) and not os.access(places[0], os.X_OK):
        return Check(name, "missing", f"{places[0]} can't be read by this user", _AS_ROOT)
    return Check(name, "missing", "not mounted", "mount -t tracefs tracefs /sys/kernel/tracing")


def _tracepoint(tracepoint: str, tracefs: Path) -> Check:
    group, _, event = tracepoint.partition(":")
    if os.path.isdir(tracefs / "events" / group / event):
        return Check(tracepoint, "fine", "there")
    option = "CONFIG_FTRACE_SYSCALLS" if group == "syscalls" else "CONFIG_TRACEPOINTS"
    return Check(tracepoint, "missing", "the kernel has no such tracepoint", f"boot a kernel built with {option}=y")


def _trial(root: Path) -> Check:
    name = "trial program"
    with binding.compiler_messages() as log:
        try:
            bcc = binding.load(binding.search_path(root))
            with headers.for_bcc(root):
                program = bcc.BPF(text=_TRIAL)
            try:
                program.load_func(b"trial", bcc.BPF.RAW_TRACEPOINT)
            finally:
                program.cleanup()
        except CannotTraceError as error:
            return Check(name, "missing", "not tried", str(error))
        except Exception as error:  # bcc raises plain Exception, with the reason on standard error
            return _refusal(name, log.read_text(errors="replace").strip() or str(error), root)
    return Check(name, "fine", "compiled, and loaded into the kernel")


def _refusal(name: str, words: str, root: Path) -> Check:
    """Why the trial program failed, from bcc's, clang's or the verifier's words."""
    if "Operation not permitted" in words:
        filtered = re.search(r"^Seccomp:\s*2$", _read(root / "proc/self/status"), re.MULTILINE)
        cause = "a seccomp filter is in force here" if filtered else "a security module or the kernel's lockdown"
        return Check(name, "missing", f"the kernel refused bpf(2): EPERM; likely cause: {cause}", _AS_ROOT)
    tail = "; ".join(words.splitlines()[-3:])
    return Check(
        name,
        "missing",
        f"could not be compiled or loaded: {tail}",
        "the kernel must be Linux 5.8 or newer, and bcc new enough for its headers",
    )
