// A BLAS of the system, opened when a product first needs one: a peer that waits for work does without its memory, and a machine without
// BLAS trains on our own kernels.
#include "CKernels.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef void (*sgemm_function)(
    int order, int transpose_a, int transpose_b, int rows, int columns, int inner, float alpha, const float *a, int a_row, const float *b,
    int b_row, float beta, float *c, int c_row);

static _Atomic(sgemm_function) sgemm;
static char *(*describe)(void);
static const char *opened;

const char *cohort_blas_open(const char *path) {
    static const char *const usual[] = {
        "libopenblas.so.0", "libopenblas.so", "libblas.so.3", "/System/Library/Frameworks/Accelerate.framework/Accelerate",
    };
    if (atomic_load(&sgemm)) return opened;
    size_t count = path ? 1 : sizeof usual / sizeof *usual;
    for (size_t i = 0; i < count; i++) {
        const char *name = path ? path : usual[i];
        void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
        if (!library) continue;
        sgemm_function found = (sgemm_function)dlsym(library, "cblas_sgemm");
        if (!found) {
            dlclose(library);
            continue;
        }
        // We cut the work ourselves, the same whatever the number of threads: a product of OpenBLAS's own threads has other bits.
        void (*set_threads)(int) = (void (*)(int))dlsym(library, "openblas_set_num_threads");
        if (set_threads) set_threads(1);
        describe = (char *(*)(void))dlsym(library, "openblas_get_config");
        opened = describe ? describe() : name;
        atomic_store(&sgemm, found);
        return opened;
    }
    return NULL;
}

/// A product, and into how many pieces of C it is cut, by rows or by columns.
struct product {
    int transpose_a, transpose_b, by_columns;
    size_t rows, columns, inner, pieces;
    const float *a;
    size_t a_row;
    const float *b;
    size_t b_row;
    float *c;
};

static void multiply_piece(void *context, size_t piece) {
    enum { row_major = 101, plain = 111, transposed = 112 };
    const struct product *all = context;
    size_t row = 0, rows = all->rows, column = 0, columns = all->columns;
    // In sixteens, as the kernels of most libraries go.
    size_t units = ((all->by_columns ? columns : rows) + 15) / 16;
    size_t first = units * piece / all->pieces * 16, end = units * (piece + 1) / all->pieces * 16;
    if (all->by_columns) {
        column = first;
        columns = (end < columns ? end : columns) - first;
    } else {
        row = first;
        rows = (end < rows ? end : rows) - first;
    }
    atomic_load(&sgemm)(
        row_major, all->transpose_a ? transposed : plain, all->transpose_b ? transposed : plain, (int)rows, (int)columns,
        (int)all->inner, 1, all->a + (all->transpose_a ? row : row * all->a_row), (int)all->a_row,
        all->b + (all->transpose_b ? column * all->b_row : column), (int)all->b_row, 0, all->c + row * all->columns + column,
        (int)all->columns);
}

void cohort_blas_sgemm(
    struct cohort_threads *threads, int transpose_a, int transpose_b, size_t rows, size_t columns, size_t inner, const float *a,
    size_t a_row, const float *b, size_t b_row, float *c) {
    struct product all = {transpose_a, transpose_b, columns >= rows, rows, columns, inner, 1, a, a_row, b, b_row, c};
    // By the size alone: each piece has enough to do to be worth a thread, and the operand that all of them read is packed few times.
    size_t work = rows * columns * inner;
    all.pieces = work < 1u << 20 ? 1 : work < 64u << 20 ? 2 : work < 256u << 20 ? 4 : 8;
    while (all.pieces > 1 && (columns >= rows ? columns : rows) / all.pieces < 32) all.pieces /= 2;
    cohort_threads_run(threads, all.pieces, multiply_piece, &all);
}
