// What makes one update of several, a slice at a time. The same numbers give the same bits on every machine: sums go in one order, in double precision,
// and products are rounded before they are added.
#include "CKernels.h"
#include "vectors.h"

#pragma STDC FP_CONTRACT OFF

enum { FOUR = 4 };

typedef double doubles __attribute__((ext_vector_type(4), aligned(8)));
typedef float floats __attribute__((ext_vector_type(4), aligned(4)));

#define DOUBLES(pointer) __builtin_convertvector(*(const floats *)(pointer), doubles)

CLONES void cohort_accumulate(double *restrict sums, const float *restrict x, double weight, size_t count) {
    size_t i = 0;
    for (; i + FOUR <= count; i += FOUR) *(doubles *)(sums + i) += weight * DOUBLES(x + i);
    for (; i < count; i++) sums[i] += weight * (double)x[i];
}

CLONES void cohort_narrow(float *restrict to, const double *restrict from, size_t count) {
    for (size_t i = 0; i < count; i++) to[i] = (float)from[i];
}

CLONES void cohort_changes(double *restrict to, const float *restrict x, const float *restrict start, double scale, size_t count) {
    size_t i = 0;
    for (; i + FOUR <= count; i += FOUR) *(doubles *)(to + i) = scale * (DOUBLES(x + i) - DOUBLES(start + i));
    for (; i < count; i++) to[i] = scale * ((double)x[i] - (double)start[i]);
}

INLINE double total(const doubles *x) { return ((*x)[0] + (*x)[2]) + ((*x)[1] + (*x)[3]); }

struct gram {
    double *products;
    const double *changes;
    size_t rows, width, count;
};

/// A square of 4 rows by 4: each pair's products summed in four lanes.
CLONES static void gram_piece(const struct gram *all, size_t first, size_t second) {
    size_t left = all->rows - first < FOUR ? all->rows - first : FOUR, right = all->rows - second < FOUR ? all->rows - second : FOUR;
    const double *a[FOUR], *b[FOUR];
    for (size_t i = 0; i < FOUR; i++) {
        a[i] = all->changes + (first + (i < left ? i : 0)) * all->width;
        b[i] = all->changes + (second + (i < right ? i : 0)) * all->width;
    }
    doubles sums[FOUR][FOUR] = {0};
    size_t k = 0;
    for (; k + FOUR <= all->count; k += FOUR) {
        doubles y[FOUR];
        for (int j = 0; j < FOUR; j++) y[j] = *(const doubles *)(b[j] + k);
        for (int i = 0; i < FOUR; i++) {
            doubles x = *(const doubles *)(a[i] + k);
            for (int j = 0; j < FOUR; j++) sums[i][j] += x * y[j];
        }
    }
    for (size_t i = 0; i < left; i++)
        for (size_t j = 0; j < right; j++) {
            double sum = total(&sums[i][j]);
            for (size_t rest = k; rest < all->count; rest++) sum += a[i][rest] * b[j][rest];
            all->products[(first + i) * all->rows + second + j] += sum;
        }
}

static void gram_pieces(void *context, size_t piece) {
    const struct gram *all = context;
    for (size_t second = 0; second <= piece * FOUR; second += FOUR) gram_piece(all, piece * FOUR, second);
}

void cohort_gram(
    struct cohort_threads *threads, double *products, const double *changes, size_t rows, size_t width, size_t count) {
    struct gram all = {products, changes, rows, width, count};
    size_t pieces = (rows + FOUR - 1) / FOUR;
    if (threads && rows * rows * count >= 1 << 16) {
        cohort_threads_run(threads, pieces, gram_pieces, &all);
    } else {
        for (size_t piece = 0; piece < pieces; piece++) gram_pieces(&all, piece);
    }
}

CLONES void cohort_dots(
    const float *restrict x, const float *restrict start, const float *restrict combined, size_t count, double *restrict dots) {
    doubles product = 0, square = 0;
    size_t i = 0;
    for (; i + FOUR <= count; i += FOUR) {
        doubles s = DOUBLES(start + i), own = DOUBLES(x + i) - s, all = DOUBLES(combined + i) - s;
        product += own * all;
        square += own * own;
    }
    double with = total(&product), alone = total(&square);
    for (; i < count; i++) {
        double own = (double)x[i] - (double)start[i];
        with += own * ((double)combined[i] - (double)start[i]);
        alone += own * own;
    }
    dots[0] += with;
    dots[1] += alone;
}

CLONES uint32_t cohort_inspect(double *restrict sums, const float *restrict x, const float *restrict start, size_t count, bool is_squared) {
    doubles sum = *(doubles *)sums;
    int64_t infinite = 0, negative = 0;
    size_t i = 0;
    for (; i + FOUR <= count; i += FOUR) {
        doubles value = DOUBLES(x + i), own = start ? value - DOUBLES(start + i) : value;
        // A number that is not finite makes the difference to itself NaN.
        __auto_type odd = (value - value) != (doubles)0, below = value < (doubles)0;
        infinite |= odd[0] | odd[1] | odd[2] | odd[3];
        negative |= below[0] | below[1] | below[2] | below[3];
        sum += is_squared ? own * own : own;
    }
    for (; i < count; i++) {
        double value = x[i], own = start ? value - (double)start[i] : value;
        infinite |= value - value != 0;
        negative |= value < 0;
        sum[i % FOUR] += is_squared ? own * own : own;
    }
    *(doubles *)sums = sum;
    return (infinite != 0) | (negative != 0) << 1;
}

CLONES void cohort_middle(
    const float *const *restrict rows, size_t count, size_t columns, const uint32_t *restrict pairs, size_t pair_count, size_t low,
    size_t high, float *restrict scratch, float *restrict out) {
    for (size_t first = 0; first < columns; first += LANES) {
        size_t some = columns - first < LANES ? columns - first : LANES;
        for (size_t row = 0; row < count; row++) {
            vector x;
            get(&x, rows[row] + first, some);
            AT(scratch + row * LANES) = x;
        }
        for (size_t pair = 0; pair < pair_count; pair++) {
            float *a = scratch + (size_t)pairs[2 * pair] * LANES, *b = scratch + (size_t)pairs[2 * pair + 1] * LANES;
            vector x = AT(a), y = AT(b);
            lanes swap = y < x;
            AT(a) = swap ? y : x;
            AT(b) = swap ? x : y;
        }
        for (size_t lane = 0; lane < some; lane++) {
            double sum = 0;
            for (size_t row = low; row < high; row++) sum += (double)scratch[row * LANES + lane];
            out[first + lane] = (float)(sum / (double)(high - low));
        }
    }
}
