// Products of small matrices, where calling a BLAS costs more than multiplying. Tiles of up to six rows by sixteen columns are summed in
// registers, over the inner dimension from first to last, so the same numbers give the same bits however the work is divided.
#include "CKernels.h"
#include "vectors.h"

enum { TILE = 6 };

/// What is done with a tile's sums on their way to C.
struct epilogue {
    const float *bias;
    int relu;
    const float *gate;
};

/// `rows` is a constant where this is inlined. `panel` holds 16 columns of B, `panel_step` floats from one inner index to the next.
INLINE void tile(
    size_t rows, size_t inner, const float *a, size_t a_row, size_t a_step, const float *panel, size_t panel_step, float *c, size_t c_row,
    size_t columns, struct epilogue end) {
    vector sums[TILE];
#pragma unroll
    for (size_t i = 0; i < rows; i++) sums[i] = 0;
    for (size_t p = 0; p < inner; p++) {
        vector b = AT(panel + p * panel_step);
#pragma unroll
        for (size_t i = 0; i < rows; i++) sums[i] += a[i * a_row + p * a_step] * b;
    }
    vector bias = 0;
    if (end.bias) get(&bias, end.bias, columns);
#pragma unroll
    for (size_t i = 0; i < rows; i++) {
        vector x = sums[i] + bias;
        // Written so that a NaN stays one: a diverged model must show.
        if (end.relu) x = x < 0.0f ? (vector)0 : x;
        if (end.gate) {
            vector gate;
            get(&gate, end.gate + i * c_row, columns);
            x = gate > 0.0f ? x : (vector)0;
        }
        put(c + i * c_row, &x, columns);
    }
}

/// Sixteen columns of C, all rows.
INLINE void panel_product(
    size_t rows, size_t inner, const float *a, size_t a_row, size_t a_step, const float *panel, size_t panel_step, float *c, size_t c_row,
    size_t columns, struct epilogue end) {
#define TILES(n)                                                                                            \
    tile(n, inner, a, a_row, a_step, panel, panel_step, c, c_row, columns, end);                            \
    a += n * a_row, c += n * c_row, end.gate = end.gate ? end.gate + n * c_row : end.gate, rows -= n
    while (rows >= TILE) { TILES(6); }
    switch (rows) {
        case 5: TILES(5); break;
        case 4: TILES(4); break;
        case 3: TILES(3); break;
        case 2: TILES(2); break;
        case 1: TILES(1); break;
    }
#undef TILES
}

/// panel[p, j] = b[j, p] for 16 rows of a row-major matrix, `columns` of them there: the others are zero.
INLINE void transpose_panel(const float *b, size_t b_row, size_t columns, size_t inner, float *panel) {
    size_t p = 0;
    if (columns == LANES) {
        // Blocks of four by four, by interleaving pairs and then pairs of pairs.
        typedef float quad __attribute__((ext_vector_type(4), aligned(4)));
        for (; p + 4 <= inner; p += 4) {
#pragma unroll
            for (size_t j = 0; j < LANES; j += 4) {
                const float *from = b + j * b_row + p;
                quad r0 = *(const quad *)from, r1 = *(const quad *)(from + b_row), r2 = *(const quad *)(from + 2 * b_row),
                     r3 = *(const quad *)(from + 3 * b_row);
                quad a0 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5), a1 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5);
                quad a2 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7), a3 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
                float *to = panel + p * LANES + j;
                *(quad *)to = __builtin_shufflevector(a0, a1, 0, 1, 4, 5);
                *(quad *)(to + LANES) = __builtin_shufflevector(a0, a1, 2, 3, 6, 7);
                *(quad *)(to + 2 * LANES) = __builtin_shufflevector(a2, a3, 0, 1, 4, 5);
                *(quad *)(to + 3 * LANES) = __builtin_shufflevector(a2, a3, 2, 3, 6, 7);
            }
        }
    }
    for (; p < inner; p++)
        for (size_t j = 0; j < LANES; j++) panel[p * LANES + j] = j < columns ? b[j * b_row + p] : 0;
}

CLONES void cohort_gemm(
    size_t rows, size_t columns, size_t inner, const float *a, size_t a_row, size_t a_step, const float *b, size_t b_row,
    int b_transposed, float *c, const float *bias, int relu, const float *gate, float *panel) {
    for (size_t j = 0; j < columns; j += LANES) {
        size_t count = columns - j < LANES ? columns - j : LANES;
        const float *from = panel;
        size_t step = LANES;
        if (b_transposed) {
            transpose_panel(b + j * b_row, b_row, count, inner, panel);
        } else if (count == LANES) {
            from = b + j;
            step = b_row;
        } else {
            for (size_t p = 0; p < inner; p++) get(&AT(panel + p * LANES), b + p * b_row + j, count);
        }
        struct epilogue end = {bias ? bias + j : bias, relu, gate ? gate + j : gate};
        panel_product(rows, inner, a, a_row, a_step, from, step, c + j, columns, count, end);
    }
}
