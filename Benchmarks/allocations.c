// Counts allocations of a process that preloads it, and says how many at its end.
//
//     cc -O2 -shared -fPIC -o allocations.so allocations.c -ldl
//     LD_PRELOAD=./allocations.so PROGRAM

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>

static atomic_long count;

#define COUNTED(type, name, parameters, ...)                    \
    type name parameters {                                      \
        static type(*real) parameters;                          \
        if (!real) real = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
        atomic_fetch_add_explicit(&count, 1, memory_order_relaxed); \
        return real(__VA_ARGS__);                               \
    }

COUNTED(void *, malloc, (size_t size), size)
COUNTED(void *, realloc, (void *block, size_t size), block, size)
COUNTED(void *, aligned_alloc, (size_t alignment, size_t size), alignment, size)
COUNTED(int, posix_memalign, (void **block, size_t alignment, size_t size), block, alignment, size)

__attribute__((destructor)) static void say(void) { fprintf(stderr, "%ld allocations\n", (long)atomic_load(&count)); }
