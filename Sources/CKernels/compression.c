// Numbers in fewer bytes. The same numbers give the same bytes on every machine.
#include "CKernels.h"
#include "vectors.h"

#include <math.h>

#pragma STDC FP_CONTRACT OFF

enum { BLOCK = 1024 };

void cohort_to_int8(int8_t *restrict codes, float *restrict scales, const float *restrict x, float *restrict rest, size_t count) {
    for (size_t first = 0; first < count; first += BLOCK, scales++) {
        size_t end = count - first < BLOCK ? count : first + BLOCK;
        float all[BLOCK], most = 0;
        for (size_t i = first; i < end; i++) {
            float value = rest ? x[i] + rest[i] : x[i], size = fabsf(value);
            all[i - first] = value;
            if (size > most) most = size;
        }
        float scale = most / 127;
        // What is read is no infinity.
        if (isinf(127 * scale)) scale = nextafterf(scale, 0);
        *scales = scale;
        for (size_t i = first; i < end; i++) {
            float value = all[i - first], code = scale > 0 ? rintf(value / scale) : 0;
            // A scale that is no normal number is rounded itself.
            code = code > 127 ? 127 : code < -127 ? -127 : code;
            codes[i] = (int8_t)code;
            if (rest) rest[i] = value - code * scale;
        }
    }
}

void cohort_to_log8(uint8_t *restrict codes, float *restrict scales, const float *restrict x, size_t count) {
    for (size_t first = 0; first < count; first += BLOCK, scales++) {
        size_t end = count - first < BLOCK ? count : first + BLOCK;
        float most = 0;
        for (size_t i = first; i < end; i++)
            if (x[i] > most) most = x[i];
        *scales = most;
        for (size_t i = first; i < end; i++) {
            float code = x[i] > 0 ? 255 + rintf(8 * log2f(x[i] / most)) : 0;
            // Nothing that is above 0 becomes 0: it is divided by.
            codes[i] = x[i] > 0 ? (uint8_t)(code < 1 ? 1 : code > 255 ? 255 : code) : 0;
        }
    }
}

void cohort_from_int8(float *restrict x, const int8_t *restrict codes, const float *restrict scales, size_t first, size_t count) {
    for (size_t i = 0; i < count; i++) x[i] = (float)codes[i] * scales[(first + i) / BLOCK];
}

void cohort_from_log8(float *restrict x, const uint8_t *restrict codes, const float *restrict scales, size_t first, size_t count) {
    float steps[256] = {0};
    for (int code = 1; code < 256; code++) steps[code] = (float)exp2((code - 255) / 8.0);
    for (size_t i = 0; i < count; i++) x[i] = steps[codes[i]] * scales[(first + i) / BLOCK];
}

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint16_t to_brain(float x) {
    uint32_t bits = bits_of(x);
    uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
    // Not to infinity.
    if ((rounded & 0x7f800000) == 0x7f800000 && (bits & 0x7f800000) != 0x7f800000) rounded = bits;
    return (uint16_t)(rounded >> 16);
}

static uint16_t to_ieee(float x) {
    uint16_t sign = (uint16_t)(bits_of(x) >> 16 & 0x8000);
    float size = fabsf(x);
    if (!(size < 65504)) return sign | 0x7bff;
    // Below the least normal one, steps are all 2^-24; above, eleven bits of the significand are left.
    if (size < 0x1p-14f) return (uint16_t)(sign | (uint16_t)rintf(size * 0x1p24f));
    uint32_t bits = bits_of(size);
    bits += 0xfff + ((bits >> 13) & 1);
    return (uint16_t)(sign | (uint16_t)((bits >> 13) - (112 << 10)));
}

static float from_ieee(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 0x3ff;
    if (exponent == 0) return from_bits(sign | bits_of((float)fraction * 0x1p-24f));
    if (exponent == 31) return from_bits(sign | 0x7f800000 | fraction << 13);
    return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

void cohort_to_half(uint16_t *restrict halves, const float *restrict x, float *restrict rest, size_t count, int brain) {
    for (size_t i = 0; i < count; i++) {
        float value = rest ? x[i] + rest[i] : x[i];
        halves[i] = brain ? to_brain(value) : to_ieee(value);
        if (rest) rest[i] = value - (brain ? from_bits((uint32_t)halves[i] << 16) : from_ieee(halves[i]));
    }
}

void cohort_from_half(float *restrict x, const uint16_t *restrict halves, size_t count, int brain) {
    for (size_t i = 0; i < count; i++) x[i] = brain ? from_bits((uint32_t)halves[i] << 16) : from_ieee(halves[i]);
}

CLONES void cohort_add(float *restrict x, const float *restrict y, size_t count) {
    for (size_t i = 0; i < count; i++) x[i] += y[i];
}
