#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A Debian in which openssl, perl, python3, gcc and others must compute what they compute natively."""

import os
import re
import sys

from vm import SKIP, Silence, arguments, run


def results(text):
    """By test: what check.sh says of it."""
    parts = re.split(r"^(\S[^:\n]*): ((?:.*\n)*?)^status=(\d+)\n", text, flags=re.M)
    return {parts[n]: parts[n + 1].strip() + f" (status {parts[n + 2]})" for n in range(1, len(parts) - 1, 4)}


def compare(args, what, smp):
    with open(f"{args.files}/{what}", encoding="latin-1") as f:
        native = results(f.read())
    with args.vm(["-cpu", args.cpu, "-smp", str(smp), "-m", "512", "-kernel", f"{args.files}/vmlinuz",
                  "-initrd", f"{args.files}/initrd.gz", "-append", f"console=ttyS0 quiet check={what}", "-drive",
                  f"file={args.files}/root.img,format=raw,if=virtio,snapshot=on,cache=unsafe"]) as vm:
        vm.wait(r"^check: begin$", args.timeout)
        begin = vm.at
        end = vm.wait(r"^check: end$", args.timeout).start()
        vm.wait(r"^check: over$", args.timeout)
        guest = results(vm.seen[begin + 1:end])
        complaints = re.findall(r"^check: kernel: .*", vm.seen, re.M)
    bad = [f"{name}\n  natively: {native[name]}\n  here: {guest.get(name)}" for name in native
           if guest.get(name) != native[name]]
    if len(native) < 30 or bad or complaints:
        raise Silence(f"{len(bad)} of {len(native)} differ: " + "\n".join(bad + complaints))
    print(f"guest: {len(native)} results are as natively", flush=True)


def main():
    p = arguments(__doc__, ["quick", "all"])
    p.add_argument("--cpu", default="host", help="CPU model (%(default)s)")
    p.add_argument("--smp", type=int, default=1, help="CPUs (%(default)s)")
    p.set_defaults(timeout=3600)
    args = p.parse_args()
    args.files = os.path.join(args.guests, "debian")
    if not os.path.exists(f"{args.files}/done"):
        print(f"guest: nothing in {args.files} (tests/guest/fetch debian {args.guests} gets it, as root)")
        sys.exit(SKIP)
    sys.exit(run(args, {what: lambda args, w=what: compare(args, w, args.smp) for what in ("quick", "all")}))


if __name__ == "__main__":
    main()
