#!/bin/sh
# SPDX-License-Identifier: MIT
# check.sh [quick]: what programs compute, on stdout. It runs in the guest and natively, and must say the same. Neither
# uses FMA, which makes the last digits of some functions in libm another's.
quick=$1; cd /check; export LC_ALL=C PYTHONHASHSEED=0 GLIBC_TUNABLES=glibc.cpu.hwcaps=-FMA,-FMA4 TMPDIR=/tmp HOME=/tmp PYTHONDONTWRITEBYTECODE=1
t() { echo "$1: $(shift; "$@" 2>&1; echo "status=$?")"; }
python3 -c "import random; r=random.Random(7); open('/tmp/data','wb').write(bytes(r.getrandbits(8) for _ in range(300000)))"
for d in md5 sha1 sha224 sha256 sha384 sha512 sha512-256 sha3-256 sha3-512 shake128 blake2b512 blake2s256 ripemd160 sm3; do t $d openssl dgst -$d -provider default -provider legacy /tmp/data; done
for c in aes-128-cbc aes-256-ctr aes-192-ofb aes-128-cfb8 camellia-256-cbc aria-256-cbc chacha20 des-ede3-cbc sm4-cbc bf-cbc rc4 cast5-cbc seed-cbc; do
	k=000102030405060708090a0b0c0d0e0f
	t $c sh -c "openssl enc -$c -provider default -provider legacy -K $k -iv 0f0e0d0c0b0a09080706050403020100 -in /tmp/data 2>/dev/null | tee /tmp/enc | sha256sum; openssl enc -d -$c -provider default -provider legacy -K $k -iv 0f0e0d0c0b0a09080706050403020100 -in /tmp/enc 2>/dev/null | cmp - /tmp/data"
done
for m in HMAC:digest:SHA256 CMAC:cipher:aes-128-cbc GMAC:cipher:aes-128-gcm KMAC128:custom:x POLY1305:a:b SIPHASH:size:16; do
	set -- $(echo $m | tr : ' '); t $1 sh -c "openssl mac $(case $1 in POLY1305|KMAC128|SIPHASH) ;; *) echo -$2 $3;; esac) -macopt hexkey:$(case $1 in POLY1305) echo 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f;; *) echo 000102030405060708090a0b0c0d0e0f;; esac) $(case $1 in GMAC) echo -macopt hexiv:000102030405060708090a0b;; esac) -in /tmp/data $1"; done
t rsa sh -c 'openssl rsa -in rsa.pem -check -noout; openssl dgst -sha256 -sign rsa.pem /tmp/data | sha256sum; openssl dgst -sha256 -sign rsa.pem -out /tmp/s /tmp/data; openssl rsa -in rsa.pem -pubout -out /tmp/p 2>/dev/null; openssl dgst -sha256 -verify /tmp/p -signature /tmp/s /tmp/data'
for k in p256 p384 ed25519 ed448 sm2; do t $k sh -c "openssl pkey -in $k.pem -check -noout -text_pub; openssl pkey -in $k.pem -pubout -out /tmp/p; openssl pkeyutl -sign -rawin -inkey $k.pem -in check.pl -out /tmp/s && openssl pkeyutl -verify -rawin -pubin -inkey /tmp/p -in check.pl -sigfile /tmp/s"; done
for k in x25519 x448 p256; do t derive-$k openssl pkeyutl -derive -inkey $k.pem -peerkey $k-peer.pem -hexdump; done
t prime openssl prime -checks 20 115792089237316195423570985008687907853269984665640564039457584007908834671663
t genrsa sh -c 'openssl genrsa 1024 2>/dev/null >/tmp/g && openssl rsa -in /tmp/g -check -noout'
t python3 python3 check.py
t perl perl check.pl
for o in "-O0" "-O2" "-O3 -msse4.2 -ffp-contract=off" "-O3 -march=haswell -c" "-O2 -mfpmath=387"; do t "gcc $o" sh -c "gcc $o -S -o - calc.c | sha256sum; gcc $o calc.c -o /tmp/calc -lm && case '$o' in *-c) ;; *) /tmp/calc;; esac"; done
for z in gzip bzip2 xz zstd; do t $z sh -c "cat check.py check.pl calc.c /tmp/data | $z -c | tee /tmp/z | sha256sum; $z -dc </tmp/z | sha256sum"; done
t bc sh -c 'echo "scale=400; 4*a(1); e(1); l(2); sqrt(2)" | bc -l'
t awk gawk 'BEGIN { srand(1); for (i = 0; i < 5000; i++) { x += sin(i) * exp(i / 1000) / (i + 1); y = (y * 31 + i) % 65537 } printf "%.17g %d %s\n", x, y, substr(rand(), 1, 8) }'
t sort sh -c 'od -An -v -tx4 -w4 /tmp/data | sort | sha256sum; seq 1 20000 | sort -R --random-source=/tmp/data | md5sum; seq 1 20000 | factor | sha256sum'
[ "$quick" = quick ] || for m in test_math test_cmath test_float test_struct test_decimal test_fractions test_long test_int test_hashlib test_zlib test_statistics test_random test_binascii test_json test_array test_memoryview test_unicode test_sort test_strtod test_complex; do
	t $m sh -c "cd /tmp && timeout 900 python3 -m test -q $m 2>&1 | grep -E '^(FAIL|ERROR|Tests result)'"; done
