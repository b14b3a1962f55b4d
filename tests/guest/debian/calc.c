// SPDX-License-Identifier: MIT
/* Integer, vector, SSE and x87 arithmetic and libm, as a digest. */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
static uint64_t s = 88172645463325252ull;
static uint64_t rnd(void)
{
	s ^= s << 13;
	s ^= s >> 7;
	s ^= s << 17;
	return s;
}
static double rd(void)
{
	return (double)(int64_t)rnd() / 1e15;
}
struct v {
	float a[64];
	double d[64];
	int32_t i[64];
	uint8_t b[64];
	int16_t h[64];
};
static uint64_t h = 1469598103934665603ull;
static void mix(const void *p, size_t n)
{
	const unsigned char *c = p;
	while (n--)
		h = (h ^ *c++) * 1099511628211ull;
}
static void kernels(struct v *x, struct v *y, struct v *z)
{
	for (int k = 0; k < 64; k++)
		z->a[k] = x->a[k] * y->a[k] + z->a[k];
	for (int k = 0; k < 64; k++)
		z->d[k] = x->d[k] / (y->d[k] * y->d[k] + 1.5) - z->d[k];
	for (int k = 0; k < 64; k++)
		z->i[k] = x->i[k] * y->i[k] + (z->i[k] >> 3);
	for (int k = 0; k < 64; k++)
		z->b[k] = (uint8_t)((x->b[k] + y->b[k] + 1) >> 1) ^ z->b[k];
	for (int k = 0; k < 64; k++) {
		int t = x->h[k] + y->h[k];
		z->h[k] = (int16_t)(t > 32767 ? 32767 : t < -32768 ? -32768 : t);
	}
	for (int k = 0; k < 64; k++)
		z->i[k] += (int32_t)z->a[k] % 1000;
	for (int k = 0; k < 64; k++)
		z->a[k] = sqrtf(fabsf(z->a[k])) + (float)z->i[k];
}
int main(void)
{
	static struct v x, y, z;
	long double ld = 1;
	for (int n = 0; n < 2000; n++) {
		for (int k = 0; k < 64; k++) {
			x.a[k] = (float)rd();
			y.a[k] = (float)rd() / 1e3f;
			x.d[k] = rd();
			y.d[k] = rd();
			x.i[k] = (int)rnd();
			y.i[k] = (int)rnd();
			x.b[k] = (uint8_t)rnd();
			y.b[k] = (uint8_t)rnd();
			x.h[k] = (int16_t)rnd();
			y.h[k] = (int16_t)rnd();
		}
		kernels(&x, &y, &z);
		for (int k = 0; k < 64; k++) {
			if (!(fabsf(z.a[k]) < 1e20f))
				z.a[k] = 1;
			if (!(fabs(z.d[k]) < 1e200))
				z.d[k] = 1;
		}
		mix(&z, sizeof(z));
		double r = rd();
		double m[] = { sin(r),
			       cos(r),
			       tan(r),
			       atan(r),
			       exp(r / 1e3),
			       log(fabs(r)),
			       pow(fabs(r), .37),
			       cbrt(r),
			       fmod(r, .77),
			       hypot(r, 3),
			       tgamma(fmod(r, 20)),
			       erf(r / 1e3),
			       floor(r),
			       rint(r),
			       nearbyint(r) };
		mix(m, sizeof(m));
		ld = sinl(ld + n) + logl(fabsl((long double)r)) / 3 + expl(-fabsl(fmodl(r, 11))) +
		     powl(fabsl((long double)r), .1L);
		char t[99];
		int l = snprintf(t, sizeof t, "%.21Lg %a %.17g", ld, r, m[3]);
		mix(t, l);
		unsigned __int128 w = (unsigned __int128)rnd() * rnd();
		w /= rnd() | 1;
		uint64_t q = (uint64_t)w % 1000003;
		mix(&q, 8);
		q = __builtin_popcountll(q * rnd()) + __builtin_clzll(rnd() | 1) + __builtin_ctzll(rnd() | 1ull << 63);
		mix(&q, 8);
	}
	printf("calc %016llx %.21Lg\n", (unsigned long long)h, ld);
	return 0;
}
