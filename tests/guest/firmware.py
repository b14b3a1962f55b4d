#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Firmware, boot loaders and memory testers as guests, to the point where they have proven something: GRUB boots Linux
from a disk, iPXE from the network, OVMF from QEMU, Memtest86+ finds no error.
"""

import os
import re
import shutil
import sys
import zlib

from vm import SKIP, Silence, arguments, run

PROMPT = r"^guest# "


def drive(path, **options):
    return ["-drive", ",".join(["format=raw", f"file={path}"] + [f"{k.rstrip('_')}={v}" for k, v in options.items()])]


def linux(vm, args, bits="x86_64"):
    """The demo's guest answers from its prompt, and powers off."""
    vm.wait(PROMPT, args.timeout)
    vm.send("echo sum=$((1234 * 7919)) $(uname -m)\r")
    vm.wait(rf"^sum={1234 * 7919} {bits}$", args.timeout)
    vm.send("poweroff -f\r")
    vm.wait_exit(args.timeout)


def memtest(vm, args, until=r"#10 +\[Bit fade"):
    """Until the last test, which only waits to see whether bits fade, or what is asked for; not each test shows up."""
    vm.wait(r"Memtest86\+ v6", args.timeout)
    vm.wait(until, args.timeout)
    no_errors(vm)


def no_errors(vm):
    counts = re.findall(r"Errors: +(\d+)", vm.seen)
    if not counts or any(int(n) for n in counts):
        raise Silence(f"Memtest86+ counts errors: {counts[-1:]}")


def test_grub(args):
    """SeaBIOS, GRUB from the boot record on, its menu on the serial port, Linux through its Linux loader."""
    with args.vm(["-m", "256", "-vga", "std"] + drive(f"{args.files}/grub.img", if_="ide", snapshot="on")) as vm:
        vm.wait(r"GNU GRUB +version 2", args.timeout)
        vm.wait(r"Memtest86\+", args.timeout)
        vm.send("\r")
        linux(vm, args)


def test_grub_memtest(args):
    """The menu's second entry, from a virtio disk; Memtest86+ with two CPUs."""
    with args.vm(["-m", "6", "-smp", "2"] + drive(f"{args.files}/grub.img", if_="virtio", snapshot="on")) as vm:
        vm.wait(r"GNU GRUB +version 2", args.timeout)
        vm.wait(r"Memtest86\+", args.timeout)
        vm.send("\x0e\r")  # Control-N: next
        memtest(vm, args)


def test_ipxe(args):
    """iPXE, as the option ROM of a network card, gets an address and runs a script from TFTP that boots a kernel."""
    tftp = os.path.join(args.tmp, "tftp")
    os.makedirs(tftp, exist_ok=True)
    shutil.copy(f"{args.files}/memtest/memtest86+x64.bin", f"{tftp}/memtest")
    with open(f"{tftp}/boot.ipxe", "w", encoding="ascii") as f:
        f.write("#!ipxe\necho address=${net0/ip} buildarch=${buildarch}\nkernel memtest console=ttyS0,115200\nboot\n")
    with args.vm(["-m", "24", "-netdev", f"user,id=n,tftp={tftp},bootfile=boot.ipxe", "-device", "virtio-net,netdev=n"],
                 machine="pc,graphics=off") as vm:
        vm.wait(r"iPXE [\d.]+", args.timeout)
        vm.wait(r"address=10\.0\.2\.15 buildarch=i386", args.timeout)
        memtest(vm, args, r"#[4-9] +\[")


def ovmf(args, size="", machine="pc", options=()):
    shutil.copy(f"{args.files}/ovmf/OVMF_VARS{size}.fd", f"{args.tmp}/vars.fd")
    return args.vm(drive(f"{args.files}/ovmf/OVMF_CODE{size}.fd", if_="pflash", readonly="on") +
                   drive(f"{args.tmp}/vars.fd", if_="pflash") + list(options), machine=machine)


def test_ovmf_shell(args):
    """The EFI shell answers, and resets the machine."""
    with ovmf(args, "_4M", options=["-m", "256", "-smp", "2"]) as vm:
        vm.wait(r"UEFI Interactive Shell v2", args.timeout)
        vm.wait(r"Shell>", args.timeout)
        vm.send("memmap\r")
        vm.wait(r"Total Memory: +255 MB", args.timeout)
        vm.send("mem 0 40\r")
        vm.wait(r"Memory Address 0000000000000000 40 Bytes", args.timeout)
        vm.send("reset -s\r")
        vm.wait_exit(args.timeout)


def test_ovmf_linux(args):
    """Linux by its EFI stub, and the firmware's run-time services from Linux."""
    with ovmf(args, machine="q35", options=[
            "-m", "256", "-kernel", f"{args.guest}/vmlinuz", "-initrd", f"{args.guest}/initrd.gz",
            "-append", "console=ttyS0"]) as vm:
        vm.wait(r"efi: EFI v2", args.timeout)
        linux(vm, args)


def ovmf_memtest(args, until, mib, cpus):
    """Memtest86+ as an EFI program."""
    with ovmf(args, options=["-m", mib, "-smp", cpus, "-vga", "std"] + drive(f"fat:{args.files}/memtest", if_="virtio",
                                                                          readonly="on")) as vm:
        vm.wait(r"Shell>", args.timeout)
        vm.send("fs0:\\memtest86+x64.efi console=ttyS0,115200\r")
        memtest(vm, args, until)


def test_ovmf_memtest(args):
    """It starts, and tests with two CPUs."""
    ovmf_memtest(args, r"#[4-9] +\[", "128", "2")


def test_u_boot(args):
    """U-Boot instead of a BIOS: from the reset vector to its prompt, as a 32-bit and as a 64-bit program."""
    for bits in "32", "64":
        with args.vm(["-m", "256", "-bios", f"{args.others}/u-boot-{bits}.rom"]) as vm:
            vm.wait(r"U-Boot 20\d\d", args.timeout)
            vm.wait(r"^=> ", args.timeout)
            vm.send("md.b fffffff0 10; crc32 fffe0000 20000; echo sum=${undefined}$filesize.\r")
            vm.wait(r"^fffffff0: ", args.timeout)
            vm.wait(r"crc32 for fffe0000 \.\.\. ffffffff ==> ([0-9a-f]{8})$", args.timeout)
            with open(f"{args.others}/u-boot-{bits}.rom", "rb") as f:
                crc = f"{zlib.crc32(f.read()[-0x20000:]):08x}"
            if f"==> {crc}" not in vm.seen:
                raise Silence(f"the ROM's sum is not {crc}")


def test_grub_rescue(args):
    """SeaBIOS boots a CD; iPXE as a Linux kernel."""
    with args.vm(["-m", "64", "-vga", "std", "-cdrom", f"{args.others}/grub.iso"]) as vm:
        vm.wait_screen("GNU GRUB  version 2", args.timeout)
        vm.wait_screen("Memtest86+", args.timeout)
    with args.vm(["-m", "64", "-vga", "std", "-kernel", f"{args.others}/ipxe.lkrn"]) as vm:
        vm.wait_screen("Press Ctrl-B for the iPXE command line", args.timeout)


def test_memtest_pass(args):
    """A full pass of Memtest86+."""
    for arch, cpus in ("x64", "1"), ("x64", "2"), ("ia32", "2"):
        with args.vm(["-m", "16", "-smp", cpus, "-kernel", f"{args.files}/memtest/memtest86+{arch}.bin",
                      "-append", "console=ttyS0,115200"]) as vm:
            memtest(vm, args, r"Pass: +1 ")


def test_ovmf_memtest_pass(args):
    """The same of the EFI image; the firmware wants this much memory."""
    ovmf_memtest(args, r"Pass: +1 ", "64", "2")


def main():
    tests = {name[5:].replace("_", "-"): f for name, f in globals().items() if name.startswith("test_")}
    args = arguments(__doc__, tests).parse_args()
    args.guest = os.path.join(args.guests, "amd64")
    args.files = os.path.join(args.guests, "firmware")
    args.others = os.path.join(args.guests, "others")
    for what in ["firmware"] + ["others"] * bool({"u-boot", "grub-rescue"} & set(args.test)):
        if not os.path.exists(f"{args.guests}/{what}/done") or not os.path.exists(f"{args.guest}/vmlinuz"):
            print(f"guest: nothing in {args.guests}/{what} (tests/guest/fetch {what} {args.guests} gets it)")
            sys.exit(SKIP)
    sys.exit(run(args, tests))


if __name__ == "__main__":
    main()
