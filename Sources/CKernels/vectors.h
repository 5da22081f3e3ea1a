// Vectors of 16 floats for the kernels of this folder. Written with the compiler's vector extension: one source becomes SSE, AVX2, AVX-512
// or NEON code. CLONES compiles a function for each of x86's levels (4: AVX-512, 3: AVX2 and FMA); the loader picks what the machine has.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__linux__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };

typedef float vector __attribute__((ext_vector_type(16), aligned(4)));
typedef int32_t lanes __attribute__((ext_vector_type(16)));

/// The 16 floats that begin at a pointer to one, as a vector to read or to assign to. (Helpers take vectors by pointer: by value they would
/// be passed in other registers by every clone.)
#define AT(pointer) (*(vector *)(pointer))

/// `count` < 16 floats, in pieces of known sizes: a call of memcpy would take longer than the copy.
INLINE void copy_some(float *to, const float *from, size_t count) {
    if (count & 8) memcpy(to, from, 32), to += 8, from += 8;
    if (count & 4) memcpy(to, from, 16), to += 4, from += 4;
    if (count & 2) memcpy(to, from, 8), to += 2, from += 2;
    if (count & 1) *to = *from;
}

/// The first `count` <= 16 floats, the others zero.
INLINE void get(vector *x, const float *from, size_t count) {
    if (count == LANES) {
        *x = AT(from);
        return;
    }
    float all[LANES] = {0};
    copy_some(all, from, count);
    *x = AT(all);
}

INLINE void put(float *to, const vector *x, size_t count) {
    if (count == LANES) {
        AT(to) = *x;
        return;
    }
    float all[LANES];
    AT(all) = *x;
    copy_some(to, all, count);
}

/// e^x within 2 units in the last place; NaN stays NaN, and below -87.3 it is the smallest normal number instead of less.
INLINE void exponential(vector *value) {
    vector x = *value;
    x = x > 88.37f ? (vector)88.37f : x;
    x = x < -87.33f ? (vector)-87.33f : x;
    // x = n ln 2 + r, |r| <= ln 2 / 2; ln 2 in two parts, so that the difference is exact.
    vector n = __builtin_elementwise_floor(x * 1.44269504088896341f + 0.5f);
    vector r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    // e^r by a polynomial (Cephes, expf).
    vector y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * (r * r) + r + 1.0f;
    lanes power = (__builtin_convertvector(n, lanes) + 127) << 23;
    vector scale;
    memcpy(&scale, &power, sizeof scale);
    *value = y * scale;
}

INLINE void sigmoid(vector *x) {
    *x = -*x;
    exponential(x);
    *x = 1.0f / (1.0f + *x);
}

/// By a polynomial near zero, where 1 - 2 / (e^2x + 1) would lose digits (Cephes, tanhf).
INLINE void hyperbolic_tangent(vector *value) {
    vector x = *value, z = x * x;
    vector near = -5.70498872745e-3f;
    near = near * z + 2.06390887954e-2f;
    near = near * z - 5.37397155531e-2f;
    near = near * z + 1.33314422036e-1f;
    near = near * z - 3.33332819422e-1f;
    near = near * z * x + x;
    vector size = __builtin_elementwise_abs(x), grown = 2.0f * size;
    exponential(&grown);
    vector far = 1.0f - 2.0f / (grown + 1.0f);
    far = x < 0.0f ? -far : far;
    *value = size < 0.625f ? near : far;
}
