# SPDX-License-Identifier: MIT
import hashlib, json, math, decimal, fractions, random, struct, zlib, bz2, lzma, re, statistics, datetime, sys
r = random.Random(42)
data = bytes(r.getrandbits(8) for _ in range(100000))
for n in sorted(hashlib.algorithms_guaranteed):
    h = hashlib.new(n, data)
    print(n, h.hexdigest(32) if n.startswith("shake") else h.hexdigest())
print("pbkdf2", hashlib.pbkdf2_hmac("sha256", b"pw", b"salt", 2000).hex())
print("scrypt", hashlib.scrypt(b"pw", salt=b"s", n=256, r=8, p=1).hex())
for f in (zlib, bz2, lzma):
    c = f.compress(data[:20000] * 3)
    print(f.__name__, len(c), hashlib.sha1(c).hexdigest(), f.decompress(c) == data[:20000] * 3)
decimal.getcontext().prec = 300
print(decimal.Decimal(2).sqrt(), decimal.Decimal(1).exp(), decimal.Decimal(7).ln())
x = [r.uniform(-1e3, 1e3) for _ in range(2000)]
out = hashlib.sha256()
for v in x:
    for f in (math.sin, math.cos, math.tan, math.atan, math.sinh, math.erf, math.gamma, math.lgamma, math.cbrt, math.exp2, math.expm1):
        try: out.update(repr(f(v / 7)).encode())
        except (OverflowError, ValueError) as e: out.update(str(e).encode())
    out.update(json.dumps([v, v * 1e300, v / 3, int(v) ** 7, round(v, 3), str(fractions.Fraction(v))]).encode())
    out.update(struct.pack("<efdqiB", v, v, v, int(v), int(v), int(abs(v)) & 255))
print("math", out.hexdigest())
print(repr(0.1 + 0.2), repr(1e23), float("1.7976931348623157e308") * 10, repr(5e-324), 2 ** 4000 % 10 ** 40, pow(3, 10 ** 6, 10 ** 30 + 57))
print(statistics.fmean(x), statistics.stdev(x), sum(x), math.fsum(x))
print(math.factorial(500) % (10 ** 50 + 151), math.comb(300, 150), hash(12345.678), sorted(x)[:3])
print(re.sub(r"(\d+)-(\w+)", r"\2_\1", " ".join(f"{n}-{n:x}" for n in range(5))), datetime.date(2024, 2, 29).strftime("%A %j"))
