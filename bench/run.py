#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
make bench: the same guest program (bench/ubench.c) natively, in a guest under ukvm, and in the same guest under QEMU
TCG, in turn, several times; prints medians and ratios. Also the time from QEMU's start to the shell prompt, exit round
trips through KVM_RUN (bench/exits.c), instructions per second (bench/mips.c), and memory beyond the guest's: QEMU's with
the guest at its prompt, and a bare VM's.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "demo"))

import guest  # noqa: E402  (demo/guest.py)
from console import Console, Silence  # noqa: E402

LINE = re.compile(r"BENCH (\S+) ([0-9.]+)")
CLIENT_LINE = re.compile(r"(EXIT|MIPS|MEMORY) (\S+) ([0-9.]+)")
# What is not a program of ubench's, and by which client of KVM it is measured.
CLIENTS = {"exits": "exits", "mips": "mips", "memory": "mips"}
NOT_UBENCH = ("boot", *CLIENTS)


def guest_directory(args, ubench, scratch):
    """The demo's guest with the benchmark in its initramfs: archives may be concatenated."""
    base = os.path.join(args.build, "guest", "amd64")
    tree = os.path.join(scratch, "tree")
    os.makedirs(os.path.join(tree, "bin"))
    subprocess.run(["install", "-m", "755", ubench, os.path.join(tree, "bin", "ubench")], check=True)
    more = subprocess.run("find . | cpio --quiet -o -H newc -R 0:0 | gzip -9n", shell=True, cwd=tree, check=True,
                          stdout=subprocess.PIPE).stdout
    with open(os.path.join(base, "initrd.gz"), "rb") as f:
        initrd = f.read()
    with open(os.path.join(scratch, "initrd.gz"), "wb") as f:
        f.write(initrd + more)
    os.symlink(os.path.join(base, "vmlinuz"), os.path.join(scratch, "vmlinuz"))
    return scratch


def in_guest(args, accel, directory):
    """One boot: {"boot": seconds, name: ns...}"""
    g = argparse.Namespace(accel=accel, cpu=args.cpu, memory=512, smp=1, arch="amd64", firmware=False, append="quiet",
                           guest=directory, ukvm=os.path.join(args.build, "ukvm"), timeout=args.timeout)
    console = Console(guest.qemu(g), echo=args.verbose)
    results = {}
    try:
        console.wait(guest.PROMPT, args.timeout)
        if wanted(args, "boot"):
            results["boot"] = console.elapsed() * 1e9
        if wanted(args, "memory"):
            results["memory:qemu"] = resident(console.pid, g.memory)
        names = [n for n in args.names if n not in NOT_UBENCH]
        if names or not args.names:
            console.send(f"ubench -t {args.time} {' '.join(names)}; echo bench-$((40 + 2))\r")
            console.wait(r"^bench-42$", args.timeout)
            results.update((name, float(ns)) for name, ns in LINE.findall(console.seen))
        console.send("poweroff -f\r")
        console.wait_exit(30)
    finally:
        console.kill()
    return results


def resident(pid, guest_mib):
    """Bytes that a process has in memory, without the mapping that is as large as the guest's memory."""
    total, counts = 0, True
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as f:
        for line in f:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
            if m:
                counts = int(m[2], 16) - int(m[1], 16) != guest_mib << 20
            elif counts and line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


def native(args, ubench):
    names = [n for n in args.names if n not in NOT_UBENCH]
    if args.names and not names:
        return {}
    out = subprocess.run([ubench, "-t", str(args.time)] + names, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {name: float(ns) for name, ns in LINE.findall(out)}


def client(args, argv):
    """Figures of a client of KVM: {"exit:name": ns, "mips:name": millions per second, "memory:name": bytes}"""
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    found = {f"{kind.lower()}:{name}": float(v) for kind, name, v in CLIENT_LINE.findall(p.stdout)}
    return {k: v for k, v in found.items() if wanted(args, k.split(":")[0].replace("exit", "exits"))}


def clients(args):
    """Under ukvm, and with this machine's /dev/kvm if there is one."""
    ours, hosts = {}, {}
    for name in sorted({CLIENTS[n] for n in CLIENTS if wanted(args, n)}):
        probe = os.path.join(args.build, "bench", name)
        ours.update(client(args, [os.path.join(args.build, "ukvm"), "--", probe]))
        if os.path.exists("/dev/kvm"):
            hosts.update(client(args, [probe]))
    return ours, hosts


def wanted(args, name):
    return not args.names or name in args.names


def median(runs, name):
    values = [r[name] for r in runs if name in r]
    return statistics.median(values) if values else None


def unit(ns):
    for limit, scale, name in ((1e3, 1, "ns"), (1e6, 1e3, "us"), (1e9, 1e6, "ms")):
        if ns < limit:
            return f"{ns / scale:.1f} {name}"
    return f"{ns / 1e9:.2f} s"


def show(name, v):
    if v is None:
        return "-"
    if name.startswith("mips:"):
        return f"{v:.0f} M/s"
    return f"{v / (1 << 20):.1f} MiB" if name.startswith("memory:") else unit(v)


def table(rows):
    print(f"{'':14}{'native':>12}{'ukvm':>12}{'tcg':>12}{'ukvm/native':>13}{'tcg/native':>12}{'ukvm/tcg':>10}")
    for r in rows:
        def ratio(a, b):
            return f"{r[a] / r[b]:.2f}" if r.get(a) and r.get(b) else "-"
        cells = "".join(f"{show(r['name'], r.get(k)):>12}" for k in ("native", "ukvm", "tcg"))
        print(f"{r['name']:14}{cells}{ratio('ukvm', 'native'):>13}{ratio('tcg', 'native'):>12}"
              f"{ratio('ukvm', 'tcg'):>10}")


def measure(args):
    runs = {"native": [], "ukvm": [], "tcg": []}
    ubench = os.path.join(args.build, "bench", "ubench")
    with tempfile.TemporaryDirectory(prefix="ukvm-bench-") as scratch:
        directory = guest_directory(args, ubench, scratch)
        for n in range(args.runs):
            print(f"run {n + 1} of {args.runs}", file=sys.stderr, flush=True)
            runs["native"].append(native(args, ubench))
            if not args.names or any(n not in CLIENTS or n == "memory" for n in args.names):
                runs["ukvm"].append(in_guest(args, "kvm", directory))
                if not args.no_tcg:
                    runs["tcg"].append(in_guest(args, "tcg", directory))
            ours, hosts = clients(args)
            runs["ukvm"].append(ours)
            runs["native"].append(hosts)
    return runs


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("names", nargs="*", help="only these (boot, exits, mips, memory, or a name that ubench prints)")
    p.add_argument("--runs", type=int, default=3, help="rounds (%(default)s)")
    p.add_argument("--time", type=float, default=0.2, help="seconds that each program runs at least (%(default)s)")
    p.add_argument("--cpu", default="host", help="CPU model of the guest (%(default)s)")
    p.add_argument("--build", default=os.path.join(os.path.dirname(HERE), "build"), help="build directory")
    p.add_argument("--timeout", type=int, default=300, help="seconds for a boot, and for all programs (%(default)s)")
    p.add_argument("--no-tcg", action="store_true", help="leave QEMU TCG out")
    p.add_argument("--verbose", action="store_true", help="show the guests' consoles")
    p.add_argument("--json", action="store_true", help="print JSON instead of the table")
    args = p.parse_args()
    args.build = os.path.abspath(args.build)
    try:
        runs = measure(args)
    except Silence as e:
        print(f"bench: {e}", file=sys.stderr)
        return 1
    names = list(dict.fromkeys(name for kind in ("ukvm", "native") for r in runs[kind] for name in r))
    rows = [{"name": n, **{kind: median(runs[kind], n) for kind in runs}} for n in names]
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        table(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
