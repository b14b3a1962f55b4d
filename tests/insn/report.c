// SPDX-License-Identifier: MIT
#include "report.h"

#include <stdio.h>
#include <string.h>

#include "gen.h"
#include "insn/feature.h"

static const char *const width_names[NR_WIDTHS] = { "64", "32", "16" };

static u64 total(const struct report *reports, u32 jobs, enum width w, u32 row)
{
	u64 n = 0;

	for (u32 j = 0; j < jobs; j++)
		n += reports[j].count[w][row];
	return n;
}

static u64 total_of_row(const struct report *reports, u32 jobs, u32 row)
{
	u64 n = 0;

	for (unsigned w = 0; w < NR_WIDTHS; w++)
		n += total(reports, jobs, w, row);
	return n;
}

void report_rows(struct engine *e, const struct report *reports, u32 jobs)
{
	printf("%9s %9s %9s  code of so many bits\n", width_names[0], width_names[1], width_names[2]);
	for (u32 n = 0; n < nr_rows; n++) {
		const char *why = row_reason(e, &row_table[n]), *narrow = narrow_reason(&row_table[n], WIDTH_32);

		printf("%9llu %9llu %9llu  %-40s %s\n", (unsigned long long)total(reports, jobs, WIDTH_64, n),
		       (unsigned long long)total(reports, jobs, WIDTH_32, n),
		       (unsigned long long)total(reports, jobs, WIDTH_16, n), row_title(&row_table[n]),
		       why ? why : narrow ? narrow : "");
	}
}

/* Why rows have no cases, and how many for each reason. */
static void list_reasons(struct engine *e)
{
	static const char *seen[MAX_ROWS];
	static u32 rows_of[MAX_ROWS];
	u32 n = 0, k;

	for (u32 r = 0; r < nr_rows; r++) {
		const char *why = row_reason(e, &row_table[r]);

		if (!why)
			continue;
		for (k = 0; k < n && strcmp(seen[k], why); k++)
			;
		seen[k] = why;
		rows_of[k]++;
		n += k == n;
	}
	for (k = 0; k < n; k++)
		printf("%7u rows: %s\n", rows_of[k], seen[k]);
}

/* ---- families ---- */

static const struct family {
	const char *name;
	const char *features; /* with a space around each; NULL: what no other family has */
} families[] = {
	{ "Integer, control, segments, privileged", NULL },
	{ "BMI1, BMI2, ADX, MOVBE, POPCNT, LZCNT", " BMI1 BMI2 ADX MOVBE POPCNT LZCNT " },
	{ "x87", " FPU " },
	{ "MMX", " MMX " },
	{ "SSE, SSE2", " SSE SSE2 " },
	{ "SSE3, SSSE3, SSE4.1, SSE4.2", " SSE3 SSSE3 SSE41 SSE42 " },
	{ "AES, PCLMULQDQ, SHA, GFNI, VAES, VPCLMULQDQ", " AES PCLMUL SHA GFNI VAES VPCLMUL " },
	{ "AVX, AVX2", " AVX AVX2 AVX_AVX2 " },
	{ "FMA, F16C", " FMA F16C " },
};

static unsigned family_of(const struct row_info *row)
{
	char feature[32];
	const char *name = row->feature == FEATURE_FPU ? "FPU" : insn_features[row->feature].name;

	snprintf(feature, sizeof(feature), " %s ", name);
	for (unsigned f = 1; f < ARRAY_SIZE(families); f++)
		if (strstr(families[f].features, feature))
			return f;
	return 0;
}

static void print_count(u64 rows, u64 cases)
{
	if (rows)
		printf(" %llu: %llu |", (unsigned long long)rows, (unsigned long long)cases);
	else
		printf(" - |");
}

static void print_family(const char *name, u64 rows, const u64 covered[NR_WIDTHS], const u64 cases[NR_WIDTHS])
{
	printf("| %s | %llu |", name, (unsigned long long)rows);
	for (unsigned w = 0; w < NR_WIDTHS; w++)
		print_count(covered[w], cases[w]);
	puts("");
}

void report_families(const struct report *reports, u32 jobs)
{
	static u64 rows[ARRAY_SIZE(families)], covered[ARRAY_SIZE(families)][NR_WIDTHS],
		cases[ARRAY_SIZE(families)][NR_WIDTHS];
	u64 all_rows = 0, all_covered[NR_WIDTHS] = { 0 }, all_cases[NR_WIDTHS] = { 0 };

	for (u32 n = 0; n < nr_rows; n++) {
		unsigned f = family_of(&row_table[n]);

		rows[f]++;
		all_rows++;
		for (unsigned w = 0; w < NR_WIDTHS; w++) {
			u64 count = total(reports, jobs, w, n);

			covered[f][w] += !!count;
			cases[f][w] += count;
			all_covered[w] += !!count;
			all_cases[w] += count;
		}
	}
	puts("| family | rows | 64-bit code, rows: cases | 32-bit | 16-bit |\n|---|---|---|---|---|");
	for (unsigned f = 0; f < ARRAY_SIZE(families); f++)
		print_family(families[f].name, rows[f], covered[f], cases[f]);
	print_family("all", all_rows, all_covered, all_cases);
}

/* ---- the end ---- */

/* A row that could be tried, and of which no case could be made in many attempts, is a hole in the generator. */
static u64 report_holes(const struct report *reports, u32 jobs, const struct selection *s, u64 cases)
{
	u64 holes = 0;

	for (u32 n = 0; n < s->n && cases > 200ull * s->n; n++) {
		const struct row_info *row = &row_table[s->rows[n]];

		for (unsigned w = 0; w < NR_WIDTHS; w++) {
			bool possible = w == WIDTH_64 ? !(row->flags & F_N64) : !narrow_reason(row, w);

			if (!possible || total(reports, jobs, w, s->rows[n]))
				continue;
			printf("FAIL %s: not a single case in %s-bit code\n", row_title(row), width_names[w]);
			holes++;
		}
	}
	return holes;
}

u64 report_summary(struct engine *e, const struct report *reports, u32 jobs, const struct selection *s, u64 ms)
{
	u64 cases = 0, failures = 0, covered = 0, least = ~0ull, count;

	for (u32 j = 0; j < jobs; j++)
		failures += reports[j].failures;
	for (u32 n = 0; n < nr_rows; n++) {
		count = total_of_row(reports, jobs, n);
		cases += count;
		covered += !!count;
	}
	for (u32 n = 0; n < s->n; n++) {
		count = total_of_row(reports, jobs, s->rows[n]);
		least = count < least ? count : least;
	}
	if (s->all)
		list_reasons(e);
	failures += report_holes(reports, jobs, s, cases);
	printf("insn: %llu cases in %llu ms (%llu a second); %llu of %u rows, each at least %llu times; "
	       "%llu failures\n",
	       (unsigned long long)cases, (unsigned long long)ms, (unsigned long long)(ms ? cases * 1000 / ms : 0),
	       (unsigned long long)covered, s->all ? nr_rows : s->n, (unsigned long long)least,
	       (unsigned long long)failures);
	return failures;
}
