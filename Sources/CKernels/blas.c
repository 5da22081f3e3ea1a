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
static void (*set_threads)(int);
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
        set_threads = (void (*)(int))dlsym(library, "openblas_set_num_threads");
        describe = (char *(*)(void))dlsym(library, "openblas_get_config");
        opened = describe ? describe() : name;
        atomic_store(&sgemm, found);
        return opened;
    }
    return NULL;
}

void cohort_blas_set_threads(int threads) {
    if (atomic_load(&sgemm) && set_threads) set_threads(threads);
}

void cohort_blas_sgemm(
    int transpose_a, int transpose_b, size_t rows, size_t columns, size_t inner, const float *a, size_t a_row, const float *b, size_t b_row,
    float *c) {
    enum { row_major = 101, plain = 111, transposed = 112 };
    atomic_load(&sgemm)(
        row_major, transpose_a ? transposed : plain, transpose_b ? transposed : plain, (int)rows, (int)columns, (int)inner, 1, a,
        (int)a_row, b, (int)b_row, 0, c, (int)columns);
}
