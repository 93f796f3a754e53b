"""Offsets and sizes of the running kernel's structures, from its own type information (BTF).

Kernel headers at hand may be those of another kernel, and a structure read through them would be silently wrong.
libbpf.so.1, which libbcc links already, reads BTF.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache

from .errors import CannotTraceError

_STRUCT, _ENUM = 4, 6  # BTF_KIND_*, include/uapi/linux/btf.h

# The members that window.bpf.c reads, and the structures whose size it needs.
MEMBERS = (
    "task_struct.blocked",
    "task_struct.comm",
    "task_struct.flags",
    "task_struct.pid",
    "task_struct.sas_ss_size",
    "task_struct.sighand",
    "task_struct.signal",
    "task_struct.stack",
    "task_struct.tgid",
    "sighand_struct.action",
    "sigaction.sa_flags",
    "sigaction.sa_handler",
    "sigaction.sa_mask",
    "signal_struct.flags",
)
SIZES = ("k_sigaction",)


class _Type(ctypes.Structure):  # struct btf_type
    _fields_ = (("name", ctypes.c_uint32), ("info", ctypes.c_uint32), ("size", ctypes.c_uint32))


class _Member(ctypes.Structure):  # struct btf_member
    _fields_ = (("name", ctypes.c_uint32), ("type", ctypes.c_uint32), ("offset", ctypes.c_uint32))


class _Enumerator(ctypes.Structure):  # struct btf_enum
    _fields_ = (("name", ctypes.c_uint32), ("value", ctypes.c_int32))


class KernelTypes:
    """The BTF of the running kernel.

    Raises CannotTraceError where libbpf or the kernel's BTF is missing.
    """

    def __init__(self) -> None:
        try:
            lib = ctypes.CDLL(ctypes.util.find_library("bpf") or "libbpf.so.1")
        except OSError as error:
            raise CannotTraceError(
                f"libbpf can't be loaded ({error}); it comes with bcc: apt-get install python3-bpfcc"
            ) from None
        lib.btf__load_vmlinux_btf.restype = ctypes.c_void_p
        lib.btf__find_by_name_kind.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32)
        lib.btf__type_by_id.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
        lib.btf__type_by_id.restype = ctypes.c_void_p
        lib.btf__name_by_offset.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
        lib.btf__name_by_offset.restype = ctypes.c_char_p
        self._lib = lib
        self._btf = lib.btf__load_vmlinux_btf()
        # libbpf returns NULL, or in its older mode a small negative errno, on failure.
        if not self._btf or ctypes.c_int64(self._btf).value < 0:
            raise CannotTraceError(
                "the kernel gives no BTF (/sys/kernel/btf/vmlinux): it needs CONFIG_DEBUG_INFO_BTF=y"
            )

    def _find(self, name: str, kind: int) -> tuple[_Type, int]:
        type_id = self._lib.btf__find_by_name_kind(self._btf, name.encode(), kind)
        if type_id < 0:
            raise CannotTraceError(f"the kernel's BTF does not know {name}; please report this kernel")
        address = self._lib.btf__type_by_id(self._btf, type_id)
        return _Type.from_address(address), address + ctypes.sizeof(_Type)

    def size(self, struct: str) -> int:
        """The size of a structure in bytes."""
        return int(self._find(struct, _STRUCT)[0].size)

    def offset(self, member: str) -> int:
        """The offset in bytes of a direct member, given as `struct.member`."""
        struct, _, wanted = member.partition(".")
        header, first = self._find(struct, _STRUCT)
        bits = 24 if header.info >> 31 else 32  # kind_flag: the upper 8 bits hold a bitfield's size
        for entry in (_Member * (header.info & 0xFFFF)).from_address(first):
            if self._lib.btf__name_by_offset(self._btf, entry.name) == wanted.encode():
                return int(entry.offset & ((1 << bits) - 1)) // 8
        raise CannotTraceError(f"the kernel's {struct} has no member {wanted}; please report this kernel")

    def has_helper(self, name: str) -> bool:
        """Whether the kernel has a BPF helper, by its name without `bpf_`."""
        header, first = self._find("bpf_func_id", _ENUM)
        wanted = f"BPF_FUNC_{name}".encode()
        enumerators = (_Enumerator * (header.info & 0xFFFF)).from_address(first)
        return any(self._lib.btf__name_by_offset(self._btf, entry.name) == wanted for entry in enumerators)


@cache
def defines() -> tuple[str, ...]:
    """The compiler options that tell window.bpf.c this kernel's offsets, sizes and helpers."""
    kernel = KernelTypes()
    options = [f"-DOFF_{member.replace('.', '_')}={kernel.offset(member)}" for member in MEMBERS]
    options += [f"-DSIZE_{struct}={kernel.size(struct)}" for struct in SIZES]
    if kernel.has_helper("task_pt_regs"):
        options.append("-DHAVE_TASK_PT_REGS")
    return tuple(options)
