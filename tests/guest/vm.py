# SPDX-License-Identifier: MIT
"""A QEMU under ukvm (or, for comparison, with TCG): serial console, text screen, keyboard, an end in any case."""

import argparse
import json
import os
import shutil
import socket
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "demo"))
from console import Console, Silence  # noqa: E402

SKIP = 77  # how Meson is told that a test could not run here
SHIFTED = {":": "shift-semicolon", "_": "shift-minus", "(": "shift-9", ")": "shift-0", "+": "shift-equal",
           "$": "shift-4", '"': "shift-apostrophe", "|": "shift-backslash", ">": "shift-dot", "*": "shift-8"}
KEYS = {" ": "spc", "\n": "ret", "\x1b": "esc", "-": "minus", "=": "equal", ".": "dot", "/": "slash", ",": "comma",
        ";": "semicolon", "\\": "backslash", "'": "apostrophe", "[": "bracket_left", "]": "bracket_right"}


class Qmp:
    """QEMU's monitor on a socket; commands one at a time, events are dropped."""

    def __init__(self, path, seconds):
        until = time.monotonic() + seconds
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > until:
                    raise Silence("QEMU gave no monitor") from None
                time.sleep(0.05)
        self.socket.settimeout(seconds)
        self.file = self.socket.makefile("r")
        self.file.readline()
        self.call("qmp_capabilities")

    def call(self, name, **arguments):
        self.socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode())
        while True:
            line = self.file.readline()
            if not line:
                raise Silence(f"QEMU ended during {name}")
            answer = json.loads(line)
            if "error" in answer:
                raise Silence(f"{name}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]


class VM(Console):
    """options: QEMU's, beside the accelerator, which is ours; the serial port is the Console."""

    def __init__(self, options, accel="kvm", machine="pc", ukvm=None, program="qemu-system-x86_64", echo=False):
        self.dir = tempfile.mkdtemp(prefix="ukvm-vm-")
        self.qmp = None
        if accel == "kvm":
            machine += ",kernel-irqchip=off"
        argv = [program, "-accel", accel, "-machine", machine, "-display", "none", "-no-reboot", "-nodefaults",
                "-serial", "stdio", "-qmp", f"unix:{self.dir}/qmp,server=on,wait=off"] + options
        if accel == "kvm" and ukvm != "none":
            argv = [ukvm or os.path.join(TOP, "build", "ukvm"), "--"] + argv
        self.argv = argv
        super().__init__(argv, echo=echo)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def monitor(self, name, **arguments):
        if not self.qmp:
            self.qmp = Qmp(f"{self.dir}/qmp", 60)
        return self.qmp.call(name, **arguments)

    def hmp(self, line):
        return self.monitor("human-monitor-command", **{"command-line": line})

    def screen(self):
        """The 80x25 text screen of a VGA, as lines."""
        path = os.path.join(self.dir, "text")
        self.monitor("pmemsave", val=0xB8000, size=4000, filename=path)
        with open(path, "rb") as f:
            cells = f.read()[::2].decode("cp437")
        return [cells[n:n + 80].rstrip() for n in range(0, 2000, 80)]

    def wait_screen(self, text, seconds):
        """Waits until the text screen contains text; returns the screen."""
        until = time.monotonic() + seconds
        while True:
            lines = self.screen()
            if text in "\n".join(lines):
                return lines
            if time.monotonic() > until:
                raise Silence(f"no {text!r} on the screen within {seconds} s:\n" + "\n".join(lines))
            time.sleep(0.3)

    def type(self, text):
        """Types on the guest's keyboard."""
        for c in text:
            key = KEYS.get(c) or SHIFTED.get(c) or (f"shift-{c.lower()}" if c.isupper() else c)
            self.hmp(f"sendkey {key} 20")
            time.sleep(0.05)


def arguments(doc, tests):
    """The options that all of these programs have."""
    p = argparse.ArgumentParser(description=doc)
    p.add_argument("test", nargs="+", choices=tests)
    p.add_argument("--accel", default="kvm", help="QEMU accelerator: kvm (under ukvm) or tcg (%(default)s)")
    p.add_argument("--ukvm", help="the launcher (build/ukvm); 'none' for a real /dev/kvm")
    p.add_argument("--guests", default=os.path.join(TOP, "build", "guest"),
                   help="where demo/fetch and tests/guest/fetch have put things (build/guest)")
    p.add_argument("--timeout", type=int, default=240, help="seconds for each thing that is waited for (%(default)s)")
    p.add_argument("--echo", action="store_true", help="show the guest's console")
    return p


def run(args, tests):
    """Runs args.test; each raises Silence if its guest does not do what it should. Returns the exit status."""
    if not shutil.which("qemu-system-x86_64"):
        print("guest: qemu-system-x86_64 is not installed (scripts/setup installs it)")
        return SKIP
    failed = 0
    for name in args.test:
        with tempfile.TemporaryDirectory(prefix="ukvm-vm-") as args.tmp:
            failed += not passes(args, name, tests[name])
    return 1 if failed else 0


def passes(args, name, test):
    vms = []

    def start(options, **more):
        vms.append(VM(options, accel=args.accel, ukvm=args.ukvm, echo=args.echo, **more))
        return vms[-1]

    args.vm = start
    begin = time.monotonic()
    try:
        test(args)
    except Silence as e:
        print(f"\n{vms[-1].seen[-4000:]}\nguest: {name}: FAILED: {e}", flush=True)
        return False
    print(f"guest: {name}: ok, {time.monotonic() - begin:.1f} s", flush=True)
    return True
