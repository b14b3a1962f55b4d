#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Debian's kernels with CPU models, numbers of CPUs, sizes of memory and options that take other ways through the CPU;
and what kernel modules know to test by themselves. The kernel's log must be free of complaints.
"""

import os
import re
import sys

from vm import SKIP, Silence, arguments, run

PROMPT = r"^guest# "

# What a kernel says when something is wrong ...
COMPLAINT = re.compile(r"WARNING|BUG\b|\bOops|\bstall|soft lockup|hung task|Call Trace|unchecked MSR|unhandled|"
                       r"segfault|trap |general protection|invalid opcode|divide error|double fault|"
                       r"clocksource.*unstable|TSC.*(unstable|warp)|mismatch|inconsisten|not synchroni[sz]ed|"
                       r"tests? failed|alg: .*fail|FW.BUG|Firmware Bug|x86/fpu: .*(dis|mis)|rejected|skewed", re.I)
# ... and what it says of the machine or of its options, under TCG as well.
HARMLESS = re.compile(r"not a bug|Spectre|RETBleed|SRBDS|MDS|ACPI|Kernel command line|Command line|TSCs unsynchronized|"
                      r"Test failure (return|store)")

# CPU model, and /proc/cpuinfo's flags that it must have and must not have
MODELS = {
    "qemu32": ("fpu sse sse2 pae", "lm sse4_1 syscall"),
    "kvm32": ("fpu sse sse2 pae", "lm"),
    "pentium2": ("fpu mmx pae cmov", "sse lm"),
    "pentium3": ("fpu sse mmx pae", "sse2 lm"),
    "n270": ("sse2 ssse3 movbe", "lm sse4_1"),
    "coreduo": ("sse2 nx", "lm ssse3"),
    "qemu64": ("lm nx cx16 syscall", "ssse3 sse4_1 aes avx"),
    "kvm64": ("lm nx cx16 syscall", "ssse3 sse4_1 aes avx"),
    "core2duo": ("lm ssse3 cx16", "sse4_1 popcnt aes xsave"),
    "Nehalem": ("sse4_1 sse4_2 popcnt", "aes pclmulqdq xsave avx"),
    "Westmere": ("sse4_2 aes pclmulqdq", "xsave avx"),
    "SandyBridge": ("aes xsave rdtscp avx", "bmi1 bmi2 movbe rdrand"),
    "Haswell": ("avx2 fma f16c bmi1 bmi2 movbe rdrand smep fsgsbase abm pcid invpcid", "adx smap rdseed sha_ni"),
    "Skylake-Client": ("avx2 fma bmi1 bmi2 adx smap xsavec pcid invpcid", "sha_ni avx512f"),
    "EPYC": ("avx2 fma bmi1 bmi2 adx smap sha_ni clflushopt", "avx512f"),
    "Opteron_G1": ("lm nx syscall sse2", "cx16 ssse3"),
    "Opteron_G5": ("lm aes sse4_2 xsave", "bmi2 movbe"),
    "max": ("lm avx2 fma aes xsave bmi2 sha_ni smap umip pcid", "avx512f svm vmx"),
    "host": ("lm avx2 fma aes xsave bmi2 sha_ni smap umip pcid", "avx512f svm vmx"),
}

# name: architecture, CPU model, CPUs, MiB, the kernel's options, QEMU's
BOOTS = {
    "old-32": ("i386", "qemu32", 1, 128, "nosmp noapic", []),
    "old-64": ("amd64", "core2duo", 1, 128, "nokaslr mitigations=off", []),
    "pti": ("amd64", "Haswell", 2, 256, "pti=on", ["-machine", "q35"]),
    "pti-nopcid": ("amd64", "Westmere", 1, 256, "pti=on nopcid", []),
    "nopti-hugepages": ("amd64", "host", 1, 512, "nopti hugepages=16 transparent_hugepage=always", []),
    "gib": ("amd64", "host", 4, 4096, "hugepagesz=1G hugepages=1", []),
    "acpi-off": ("amd64", "qemu64", 1, 256, "acpi=off noapic nolapic", []),
    "nosmp": ("amd64", "Nehalem", 2, 256, "nosmp", []),
    "noxsave": ("amd64", "host", 1, 256, "noxsave nosmap nosmep clearcpuid=fsgsbase", []),
    "tsc": ("amd64", "host", 2, 256, "clocksource=tsc no-kvmclock", []),
    "hpet": ("amd64", "qemu64", 1, 256, "clocksource=hpet no-kvmclock", []),
    "microvm": ("amd64", "host", 1, 256, "", ["-machine", "microvm"]),
    "i386-pae": ("i386", "host", 2, 256, "", ["-machine", "q35"]),
    "isapc": ("i386", "qemu32", 1, 128, "noapic nolapic", ["-machine", "isapc"]),
    "rt": ("amd64", "host", 2, 256, "", []),
}

# Where in the guests' directory the kernel is, if it is not the demo's for the architecture.
KERNELS = {"modules": "modules", "full": "full", "selftests": "selftests", "selftests-32": "selftests-32",
           "i386-pae": "others/pae", "rt": "others/rt"}


def boot(args, name, arch, cpu, smp, memory, append, options):
    machine = options[options.index("-machine") + 1] if "-machine" in options else "pc"
    kernel = f"{args.guests}/{KERNELS.get(name, arch)}"
    vm = args.vm(["-cpu", cpu, "-smp", str(smp), "-m", str(memory), "-kernel", f"{kernel}/vmlinuz",
                  "-initrd", f"{kernel}/initrd.gz", "-append", f"console=ttyS0 {append}".strip()], machine=machine)
    vm.wait(PROMPT, args.timeout)
    return vm


def ask(vm, command, args, seconds=None):
    """The guest's answer to a command."""
    begin = vm.at
    vm.send(command + "; echo stat''us=$?\r")
    vm.wait(r"^status=\d+$", seconds or args.timeout)
    vm.wait(PROMPT, args.timeout)
    return vm.seen[begin:vm.at].split("\n", 1)[1]


def clean(vm, args):
    """The kernel has nothing to complain about."""
    bad = [line for line in ask(vm, "dmesg", args).split("\n") if COMPLAINT.search(line) and not HARMLESS.search(line)]
    if bad:
        raise Silence("the kernel complains: " + " | ".join(bad))


def off(vm, args):
    vm.send("poweroff -f\r")
    vm.wait_exit(args.timeout)


def model(args, cpu, arch, smp=1, memory=256, append="", options=(), name=""):
    with boot(args, name, arch, cpu, smp, memory, append, list(options)) as vm:
        cpuinfo = ask(vm, "cat /proc/cpuinfo", args)
        flags = set(re.search(r"^flags\s*: (.*)", cpuinfo, re.M)[1].split())
        want, never = (set(names.split()) for names in MODELS[cpu])
        # A feature that an option takes away is not one that the CPU lacks.
        if re.search(r"clearcpuid|noxsave|nosm|nolapic", append):
            want = set()
        if arch == "i386":
            want.discard("pcid")  # of no use to a 32-bit kernel, which clears it
        if want - flags or never & flags:
            raise Silence(f"/proc/cpuinfo lacks {want - flags}, should not have {never & flags}: {flags}")
        cpus = cpuinfo.count("\nprocessor\t:") + cpuinfo.startswith("processor\t:")
        if cpus != (1 if re.search(r"nosmp|nolapic", append) else smp):
            raise Silence(f"{cpus} CPUs instead of {smp}")
        clean(vm, args)
        if "poweroff" not in append and not {"microvm", "isapc"} & set(options) and "acpi=off" not in append:
            off(vm, args)


def models(args, arch, cpus):
    for cpu in cpus:
        print(f"guest: -cpu {cpu}, {arch}", flush=True)
        model(args, cpu, arch)


def test_models_32(args):
    """Each CPU model without long mode, and the host's, in a 32-bit kernel."""
    models(args, "i386", [cpu for cpu in MODELS if "lm" in MODELS[cpu][1].split() or cpu == "host"])


def test_models_64(args):
    """Each CPU model with long mode."""
    models(args, "amd64", [cpu for cpu in MODELS if "lm" in MODELS[cpu][0].split()])


MODULES = """aesni-intel aegis128-aesni blowfish-x86_64 camellia-x86_64 camellia-aesni-avx-x86_64 camellia-aesni-avx2
cast5-avx-x86_64 cast6-avx-x86_64 chacha-x86_64 crc32-pclmul crc32c-intel crct10dif-pclmul curve25519-x86_64
des3_ede-x86_64 ghash-clmulni-intel nhpoly1305-avx2 nhpoly1305-sse2 poly1305-x86_64 serpent-avx-x86_64 serpent-avx2
serpent-sse2-x86_64 sha1-ssse3 sha256-ssse3 sha512-ssse3 twofish-avx-x86_64 twofish-x86_64-3way twofish-x86_64
sha3_generic ecdh_generic gcm ccm adiantum xcbc vmac lz4 zstd""".split()


def modules(args, cpu):
    """The kernel's self-tests of its ciphers and checksums in every implementation that the CPU can run."""
    with boot(args, "modules", "amd64", cpu, 1, 512, "", []) as vm:
        for name in MODULES:
            ask(vm, f"modprobe {name}", args)
        tests = ask(vm, "grep -h selftest /proc/crypto | sort | uniq -c", args)
        if not re.fullmatch(r" *(\d+) selftest +: passed\nstatus=0\nguest# ", tests):
            raise Silence(f"/proc/crypto: {tests}")
        drivers = ask(vm, "grep -h ^driver /proc/crypto", args)
        clean(vm, args)
        off(vm, args)
    return set(re.findall(r": (\S+)", drivers))


def test_crypto(args):
    """With all that the CPU has; what AVX2 brings is there if the CPU says so."""
    drivers = modules(args, "host")
    for name in ["aesni", "pclmul", "ssse3", "-sse2|-simd", "avx2"]:
        if not any(re.search(name, d) for d in drivers):
            raise Silence(f"no {name} in {sorted(drivers)}")


def test_crypto_westmere(args):
    """With AES-NI, but without AVX."""
    drivers = modules(args, "Westmere")
    if any("avx" in d for d in drivers) or not any("aesni" in d for d in drivers):
        raise Silence(f"{sorted(drivers)}")


def test_raid(args):
    """RAID6 and XOR: every implementation runs, and one of them is chosen."""
    with boot(args, "modules", "amd64", "host", 1, 512, "", []) as vm:
        ask(vm, "modprobe raid6_pq; modprobe xor", args)
        log = ask(vm, "dmesg", args)
        for line in r"raid6: using algorithm (avx2|sse2)x\d", r"raid6: using avx2x\d recovery", r"xor: .*function.*avx":
            if not re.search(line, log):
                raise Silence(f"no {line!r} in the kernel's log")
        clean(vm, args)
        off(vm, args)


def test_library(args):
    """The kernel's own tests of its BPF interpreter and translator, user copies and patched jumps."""
    with boot(args, "full", "amd64", "host", 1, 512, "", []) as vm:
        ask(vm, "dmesg -n 1; modprobe test_static_keys; modprobe test_user_copy; modprobe test_bpf", args, 1800)
        log = ask(vm, "dmesg", args)
        for line in r"test_user_copy: tests passed", r"test_bpf: Summary: \d+ PASSED, 0 FAILED":
            if not re.search(line, log):
                raise Silence(f"no {line!r} in the kernel's log")
        clean(vm, args)
        off(vm, args)


def selftests(args, arch, name):
    """Linux's own tests of the CPU and of the kernel's entries: each says what is wrong in a line."""
    with boot(args, name, arch, "host", 2, 256, "", []) as vm:
        names = re.findall(r"\w+_(?:32|64)\b", ask(vm, "cd /selftests; ls", args))
        for test in names if arch == "amd64" else [test for test in names if test.endswith("_32")]:
            said = ask(vm, f"./{test} >/tmp/said 2>&1; s=$?; grep -v '[[]OK[]]' /tmp/said; (exit $s)", args, 900)
            if not re.search(r"^status=0$", said, re.M) or "[FAIL]" in said:
                raise Silence(f"{test}: {said}")
        off(vm, args)


def test_selftests(args):
    selftests(args, "amd64", "selftests")


def test_selftests_32(args):
    selftests(args, "i386", "selftests-32")


def count(seen):
    """The number that grep -c gave; the terminal may have wrapped the command before it."""
    return int(re.search(r"^(\d+)$", seen, re.M)[1])


def test_tracing(args):
    """Functions, probes and events are traced: the kernel patches its code while another CPU runs it."""
    with boot(args, "full", "amd64", "host", 2, 512, "", []) as vm:
        ask(vm, "mount -t tracefs t /sys/kernel/tracing; cd /sys/kernel/tracing", args)
        ask(vm, "(while :; do echo; ls /; done >/dev/null) & "
            "echo 'vfs_* ksys_* *sched* *sys_*' >set_ftrace_filter", args)
        for tracer in "function", "function_graph":
            seen = ask(vm, f"echo {tracer} >current_tracer; sleep 2; echo 0 >tracing_on; grep -c vfs_ trace; "
                       "echo nop >current_tracer; echo 1 >tracing_on", args)
            if count(seen) < 100:
                raise Silence(f"{tracer}: {seen}")
        ask(vm, "echo 'p:in do_sys_openat2 name=+0($arg2):ustring' >kprobe_events; "
            "echo 'r:out do_sys_openat2 r=$retval' >>kprobe_events; echo 1 >events/kprobes/enable", args)
        seen = ask(vm, "cat /proc/self/stat >/dev/null; sleep 1; echo 0 >events/kprobes/enable; "
                   "grep -m1 /proc/self/stat trace; grep -m1 'out:.* r=0x3' trace", args)
        if not re.search(r' in: .* name="/proc/self/stat"', seen) or " out: " not in seen:
            raise Silence(f"kprobes: {seen}")
        ask(vm, "echo >kprobe_events; echo >trace; echo 1 >events/enable; sleep 2; "
            "echo 0 >tracing_on; echo 0 >events/enable", args)
        seen = ask(vm, "grep -cE 'sched_switch|sys_enter' trace", args)
        if count(seen) < 10:
            raise Silence(f"events: {seen}")
        clean(vm, args)
        off(vm, args)


def test_xen(args):
    """Xen, a Multiboot kernel, and Linux as its domain 0: in ring 3, with page tables that Xen looks after."""
    modules = f"{args.guests}/full/vmlinuz console=hvc0,{args.guests}/amd64/initrd.gz"
    with args.vm(["-cpu", "host", "-smp", "2", "-m", "384", "-kernel", f"{args.guests}/others/xen", "-initrd", modules,
                  "-append", "com1=115200,8n1 console=com1 dom0_mem=256M"]) as vm:
        vm.wait(r"Xen version 4\.17", args.timeout)
        vm.wait(r"Dom0 has maximum 2 VCPUs", args.timeout)
        vm.wait(PROMPT, args.timeout)
        seen = ask(vm, "cat /sys/hypervisor/type; grep -c ^processor /proc/cpuinfo", args)
        if not re.search(r"^xen\n2$", seen, re.M):
            raise Silence(f"the guest is {seen}")
        clean(vm, args)
        off(vm, args)


def main():
    tests = {name[5:].replace("_", "-"): f for name, f in globals().items() if name.startswith("test_")}
    for name, (arch, cpu, smp, memory, append, options) in BOOTS.items():
        tests[name] = lambda args, a=(cpu, arch, smp, memory, append, options, name): model(args, *a)
    args = arguments(__doc__, tests).parse_args()
    kernels = {"crypto": "modules", "crypto-westmere": "modules", "raid": "modules", "library": "full",
               "tracing": "full", "xen": "full others/rt", "selftests": "selftests", "selftests-32": "selftests-32",
               "models-32": "i386", "models-64": "amd64"}
    kernels.update({name: KERNELS.get(name, arch) for name, (arch, *_) in BOOTS.items()})
    for path in {f"{args.guests}/{kernel}" for t in args.test for kernel in kernels[t].split()}:
        if not os.path.exists(f"{path}/vmlinuz") or not os.path.exists(f"{path}/initrd.gz"):
            print(f"guest: nothing in {path} (demo/fetch or tests/guest/fetch gets it)")
            sys.exit(SKIP)
    sys.exit(run(args, tests))


if __name__ == "__main__":
    main()
