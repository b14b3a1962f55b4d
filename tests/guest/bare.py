#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs of our own as guests, without firmware's or a kernel's help, for what those never do."""

import sys

from vm import arguments, run


def test_sipi(args):
    """The other CPU starts at page 0, and at page 1."""
    with args.vm(["-m", "16", "-smp", "2", "-kernel", f"{args.guests}/sipi"]) as vm:
        for _ in range(2):
            vm.wait(r"^the other CPU has started$", args.timeout)


def main():
    tests = {name[5:].replace("_", "-"): f for name, f in globals().items() if name.startswith("test_")}
    sys.exit(run(arguments(__doc__, tests).parse_args(), tests))


if __name__ == "__main__":
    main()
