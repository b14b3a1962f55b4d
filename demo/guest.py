#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Boots a Linux guest in QEMU under ukvm: with its console on the terminal, or (--check) through a scripted session that
succeeds only if the guest really answered.
"""

import argparse
import json
import os
import shutil
import sys
import time

from console import Console, Silence

PROMPT = r"^guest# "
SKIP = 77  # how Meson is told that a test could not run here


def qemu(args):
    """The command line: ukvm in front where the accelerator is ours."""
    machine = "pc,kernel-irqchip=off" if args.accel == "kvm" else "pc"
    cpu = "max" if args.cpu == "host" and args.accel != "kvm" else args.cpu
    program = "qemu-system-i386" if args.arch == "i386" and shutil.which("qemu-system-i386") else "qemu-system-x86_64"
    argv = [program, "-accel", args.accel, "-machine", machine, "-cpu", cpu, "-m", str(args.memory),
            "-smp", str(args.smp), "-nographic", "-no-reboot", "-nodefaults", "-serial", "mon:stdio"]
    if args.firmware:
        return wrap(args, argv)
    return wrap(args, argv + ["-kernel", os.path.join(args.guest, "vmlinuz"),
                              "-initrd", os.path.join(args.guest, "initrd.gz"),
                              "-append", f"console=ttyS0 {args.append}".strip()])


def wrap(args, argv):
    return [args.ukvm, "--"] + argv if args.accel == "kvm" and args.ukvm != "none" else argv


def questions(args):
    """Commands for the guest and the answer that each must give; no answer occurs in its own question."""
    bits = {"amd64": "x86_64", "i386": "i686"}[args.arch]
    seed = int(time.time()) % 10000 + 1000
    yield f"echo sum=$(({seed} * 7919))", rf"^sum={seed * 7919}$"
    yield "uname -a", rf"^Linux guest 6\.1\.\S+ .* {bits} "
    yield "echo cpus=$(grep -c ^processor /proc/cpuinfo)", rf"^cpus={args.smp}$"
    yield "grep -m1 'model name' /proc/cpuinfo", r"^model name\s*: \S"
    # 1 MiB of zeros, and the numbers up to 20000, have known digests.
    yield "dd if=/dev/zero bs=64k count=16 2>/dev/null | md5sum", r"^b6d81b360a5672d80c27430f39153e2c  -$"
    yield "seq 1 20000 | sha256sum", r"^f6351f5ead9a700e34275480b3856ea738122a7c57bdeb744a631251c069587a  -$"
    yield "for i in 1 2 3 4; do (echo done-$((i * 11))) & done; wait", r"^done-(11|22|33|44)$"
    yield "sleep 1; echo slept=$?", r"^slept=0$"


def converse(console, args):
    """The whole session; raises Silence where the guest does not answer. Returns seconds to the prompt."""
    console.wait(PROMPT, args.timeout)
    boot = console.elapsed()
    for command, answer in questions(args):
        console.send(command + "\r")
        console.wait(answer, args.timeout)
        console.wait(PROMPT, args.timeout)
    console.send("poweroff -f\r")
    console.wait(r"reboot: Power down|Powering off|System halted", args.timeout)
    status = console.wait_exit(args.timeout)
    if status != 0:
        raise Silence(f"QEMU ended with status {status}")
    return boot


def firmware(console, args):
    """SeaBIOS with nothing to boot from."""
    console.wait(r"SeaBIOS", args.timeout)
    console.wait(r"No bootable device", args.timeout)
    seconds = console.elapsed()
    console.send("\x01x")  # the monitor's key for "quit"
    console.wait_exit(args.timeout)
    return seconds


def check(args):
    name = "firmware" if args.firmware else f"{args.arch} -smp {args.smp} -cpu {args.cpu} -m {args.memory}"
    console = Console(qemu(args), echo=not args.quiet)
    try:
        seconds = (firmware if args.firmware else converse)(console, args)
    except Silence as e:
        print(f"\nguest: {name}: FAILED: {e}", flush=True)
        if args.quiet:
            print(console.seen[-4000:])
        return 1
    finally:
        console.kill()
    what = "to 'No bootable device'" if args.firmware else "to the prompt"
    print(f"\nguest: {name}: ok, {seconds:.1f} s {what}", flush=True)
    if args.json:
        print(json.dumps({"guest": name, "accel": args.accel, "seconds": round(seconds, 3)}))
    return 0


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    build = os.path.join(os.path.dirname(here), "build")
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--arch", choices=["amd64", "i386"], default="amd64", help="of Debian's kernel (%(default)s)")
    p.add_argument("--accel", default="kvm", help="QEMU accelerator: kvm (under ukvm) or tcg (%(default)s)")
    p.add_argument("--cpu", default="host", help="CPU model (%(default)s)")
    p.add_argument("--memory", type=int, default=512, help="MiB (%(default)s)")
    p.add_argument("--smp", type=int, default=1, help="vCPUs (%(default)s)")
    p.add_argument("--append", default="", help="more of the kernel's command line")
    p.add_argument("--firmware", action="store_true", help="only SeaBIOS, with nothing to boot")
    p.add_argument("--ukvm", default=os.path.join(build, "ukvm"), help="the launcher; 'none' for a real /dev/kvm")
    p.add_argument("--guest", help="directory with vmlinuz and initrd.gz (build/guest/ARCH, see demo/fetch)")
    p.add_argument("--check", action="store_true", help="run the scripted session instead of giving the terminal")
    p.add_argument("--timeout", type=int, default=120, help="seconds for the boot and for every answer (%(default)s)")
    p.add_argument("--quiet", action="store_true", help="show the console only when the check fails")
    p.add_argument("--json", action="store_true", help="print the time to the prompt as JSON as well")
    p.add_argument("--print", action="store_true", help="print the command line and do nothing")
    args = p.parse_args()
    args.guest = args.guest or os.path.join(build, "guest", args.arch)

    argv = qemu(args)
    if args.print:
        print(" ".join(f"'{a}'" if " " in a else a for a in argv))
        return 0
    if not shutil.which("qemu-system-x86_64"):
        print("guest: qemu-system-x86_64 is not installed (scripts/setup installs it)")
        return SKIP
    if not args.firmware and not os.path.exists(os.path.join(args.guest, "vmlinuz")):
        print(f"guest: no kernel in {args.guest} (demo/fetch {args.arch} {args.guest} gets it)")
        return SKIP
    if args.check:
        return check(args)
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    sys.exit(main())
