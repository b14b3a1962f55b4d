#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
What is done to a running guest from outside, with QEMU's monitor and debugger stub: stopping, NMIs, resets, another CPU,
moving to another process with all its state; breakpoints, watchpoints and single steps.
"""

import os
import re
import socket
import sys
import time

from linux import PROMPT, ask
from vm import SKIP, Silence, arguments, run


class Stub:
    """QEMU's end of GDB's remote protocol. A VM stops when somebody connects."""

    def __init__(self, path, seconds):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(seconds)
        self.socket.connect(path)
        self.data = b""
        self.send("qAttached")
        while self.answer() != "1":  # first it tells, unasked, that the VM has stopped
            pass

    def send(self, text):
        self.socket.sendall(f"${text}#{sum(text.encode()) & 255:02x}".encode())

    def answer(self):
        while True:
            packet = re.search(rb"\$([^#]*)#..", self.data)
            if packet:
                self.data = self.data[packet.end():]
                self.socket.sendall(b"+")
                return packet[1].decode()
            more = self.socket.recv(65536)
            if not more:
                raise Silence("QEMU closed the debugger's connection")
            self.data += more

    def call(self, text):
        self.send(text)
        return self.answer()

    def do(self, text):
        answer = self.call(text)
        if answer != "OK":
            raise Silence(f"the debugger stub answers {text!r} with {answer!r}")

    def resume(self, how):
        """Goes on with "c" or "s"; the thread that stopped is looked at from then on. Returns why it stopped."""
        try:
            why = self.call(how)
        except socket.timeout:
            raise Silence(f"no stop after {how!r}") from None
        thread = re.search(r"thread:([^;]+);", why)
        if not why.startswith("T05") or not thread:
            raise Silence(f"stopped with {why!r}")
        self.do(f"Hg{thread[1]}")
        return why

    def rip(self):
        return int.from_bytes(bytes.fromhex(self.call("g")[16 * 16:17 * 16]), "little")


def boot(args, options):
    kernel = f"{args.guests}/amd64"
    return args.vm(["-cpu", "host", "-m", "256", "-kernel", f"{kernel}/vmlinuz", "-initrd", f"{kernel}/initrd.gz",
                    "-append", "console=ttyS0 nokaslr"] + options)


def address(vm, symbol, args):
    return int(re.search(r"^[0-9a-f]{16}", ask(vm, f"grep -w {symbol} /proc/kallsyms", args))[0], 16)


def test_gdb(args):
    """Breakpoints of both kinds, single steps from there, a watchpoint; and the guest lives on without them."""
    with boot(args, ["-smp", "2"]) as vm:
        vm.wait(PROMPT, args.timeout)
        opening, jiffies = address(vm, "do_sys_openat2", args), address(vm, "jiffies", args)
        vm.hmp(f"gdbserver unix:{vm.dir}/gdb,server=on,wait=off")
        for kind in "Z0", "Z1":
            stub = Stub(f"{vm.dir}/gdb", args.timeout)
            stub.do(f"{kind},{opening:x},1")
            vm.send("cat /proc/uptime\r")
            stub.resume("c")
            if stub.rip() != opening:
                raise Silence(f"stopped at {stub.rip():#x}, not at {opening:#x}")
            stub.do(f"{kind.lower()},{opening:x},1")
            last = opening
            for _ in range(3):
                stub.resume("s")
                if not last < stub.rip() <= last + 15:
                    raise Silence(f"stepped from {last:#x} to {stub.rip():#x}")
                last = stub.rip()
            stub.do("D")
            stub.socket.close()
            vm.wait(PROMPT, args.timeout)
        stub = Stub(f"{vm.dir}/gdb", args.timeout)
        before = stub.call(f"m{jiffies:x},8")
        stub.do(f"Z2,{jiffies:x},8")
        why = stub.resume("c")
        if "watch:" not in why or stub.call(f"m{jiffies:x},8") == before:
            raise Silence(f"{why!r} for a watchpoint; jiffies are {before}")
        stub.do(f"z2,{jiffies:x},8")
        stub.do("D")
        ask(vm, "true", args)


def complaints(vm, args):
    log = ask(vm, "dmesg | grep -iE 'WARNING|BUG:|Oops|stall|lockup|unchecked MSR|unhandled'", args)
    if "status=1" not in log:
        raise Silence(f"the kernel complains: {log}")


def test_machine(args):
    """NMI, stop and go on, a CPU plugged in while the others run, and a reset."""
    with boot(args, ["-smp", "1,maxcpus=2,sockets=2"]) as vm:
        vm.wait(PROMPT, args.timeout)
        vm.monitor("inject-nmi")
        ask(vm, "true", args)
        if not re.search("NMI received", vm.seen + ask(vm, "dmesg | grep NMI", args)):
            raise Silence("no NMI came")
        vm.monitor("stop")
        time.sleep(0.3)
        vm.monitor("cont")
        vm.monitor("device_add", driver="host-x86_64-cpu", id="more", **{"socket-id": 1, "core-id": 0, "thread-id": 0})
        online = "/sys/devices/system/cpu/cpu1/online"
        if "status=0" not in ask(vm, f"while [ ! -e {online} ]; do sleep 1; done; echo 1 >{online}; "
                                     f"[ $(nproc) = 2 ] && taskset 2 true", args):
            raise Silence("the CPU plugged in does not run")
        complaints(vm, args)
        vm.monitor("set-action", reboot="reset")
        vm.monitor("system_reset")
        vm.wait(PROMPT, args.timeout)
        ask(vm, "true", args)
        complaints(vm, args)


def wait_status(vm, question, status, args):
    until = time.monotonic() + args.timeout
    while vm.monitor(question).get("status") != status:
        if time.monotonic() > until:
            raise Silence(f"{question}: {vm.monitor(question)}")
        time.sleep(0.2)


def test_move(args):
    """All of a guest's state goes to a file, and on from there in another process; floating point is under way."""
    with boot(args, ["-smp", "2"]) as vm:
        vm.wait(PROMPT, args.timeout)
        ask(vm, "word=kept; { awk 'BEGIN { for (n = 1; n < 1e6; n++) s += 1 / n; printf \"%.9f\", s }' >/sum; } & true", args)
        vm.hmp(f'migrate -d "exec:cat >{args.tmp}/state"')
        wait_status(vm, "query-migrate", "completed", args)
        vm.monitor("quit")
        vm.wait_exit(args.timeout)
    with boot(args, ["-smp", "2", "-incoming", f"exec:cat {args.tmp}/state"]) as vm:
        wait_status(vm, "query-status", "running", args)
        vm.send("\r")
        vm.wait(PROMPT, args.timeout)
        answer = ask(vm, "wait; echo $word $(cat /sum)", args)
        if not re.search("^kept 14.392725723$", answer, re.M):
            raise Silence(f"{answer!r} instead of what the other process had begun")
        complaints(vm, args)


def main():
    tests = {name[5:].replace("_", "-"): f for name, f in globals().items() if name.startswith("test_")}
    args = arguments(__doc__, tests).parse_args()
    if not os.path.exists(f"{args.guests}/amd64/initrd.gz"):
        print(f"guest: nothing in {args.guests}/amd64 (demo/fetch gets it)")
        sys.exit(SKIP)
    sys.exit(run(args, tests))


if __name__ == "__main__":
    main()
