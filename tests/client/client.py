#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A client that is not compiled: run by ukvm. Once with Python's own functions, once with libc's through ctypes."""

import ctypes
import fcntl
import mmap
import os
import stat
import struct

KVM_GET_API_VERSION, KVM_CREATE_VM, KVM_GET_VCPU_MMAP_SIZE = 0xAE00, 0xAE01, 0xAE04
KVM_CREATE_VCPU, KVM_SET_USER_MEMORY_REGION, KVM_RUN = 0xAE41, 0x4020AE46, 0xAE80
KVM_SET_REGS, KVM_GET_SREGS, KVM_SET_SREGS = 0x4090AE82, 0x8138AE83, 0x4138AE84
KVM_EXIT_IO, KVM_EXIT_HLT = 2, 5
# mov dx, 0x3f8; add al, bl; add al, '0'; out dx, al; hlt
CODE = b"\xba\xf8\x03\x00\xd8\x04\x30\xee\xf4"

libc = ctypes.CDLL("libc.so.6", use_errno=True)


def ctypes_ioctl(fd, request, arg=0):
    if isinstance(arg, (bytes, bytearray)):
        arg = (ctypes.c_char * len(arg)).from_buffer_copy(arg)
    ret = libc.ioctl(fd, ctypes.c_ulong(request), arg)
    if ret < 0:
        raise OSError(ctypes.get_errno(), "ioctl")
    return ret if isinstance(arg, int) else bytes(arg)


def output(kvm, ioctl):
    """What a guest that adds two and two prints."""
    assert ioctl(kvm, KVM_GET_API_VERSION, 0) == 12
    vm = ioctl(kvm, KVM_CREATE_VM, 0)
    memory = mmap.mmap(-1, 0x10000)
    memory[0x1000 : 0x1000 + len(CODE)] = CODE
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    ioctl(vm, KVM_SET_USER_MEMORY_REGION, struct.pack("IIQQQ", 0, 0, 0, len(memory), address))
    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)
    run = mmap.mmap(vcpu, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0))
    sregs = bytearray(ioctl(vcpu, KVM_GET_SREGS, bytes(312)))
    sregs[0:8] = bytes(8)  # CS: base and selector
    sregs[12:14] = bytes(2)
    ioctl(vcpu, KVM_SET_SREGS, bytes(sregs))
    ioctl(vcpu, KVM_SET_REGS, struct.pack("18Q", 2, 2, *[0] * 14, 0x1000, 2))
    text = b""
    while True:
        ioctl(vcpu, KVM_RUN, 0)
        reason, = struct.unpack_from("I", run, 8)
        if reason == KVM_EXIT_HLT:
            return text
        assert reason == KVM_EXIT_IO
        at, = struct.unpack_from("Q", run, 40)
        text += run[at : at + 1]


def main():
    assert os.path.exists("/dev/kvm") and os.access("/dev/kvm", os.R_OK | os.W_OK)
    assert stat.S_ISCHR(os.stat("/dev/kvm").st_mode)
    assert output(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC), fcntl.ioctl) == b"4"
    with open("/dev/kvm", "r+b", buffering=0) as kvm:
        assert output(kvm.fileno(), fcntl.ioctl) == b"4"
    assert output(libc.open(b"/dev/kvm", os.O_RDWR), ctypes_ioctl) == b"4"


if __name__ == "__main__":
    main()
