#include "CKernels.h"

#include <float.h>
#include <math.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

// The same bits on every machine: no product and sum become one operation.
#pragma STDC FP_CONTRACT OFF

// MARK: Text

// How long a character may be that begins with this byte, and the bounds of its second byte (RFC 3629, section 4); 0: none begins so.
static inline size_t character(uint8_t first, uint8_t *low, uint8_t *high) {
    *low = 0x80;
    *high = 0xbf;
    if (first >= 0xc2 && first <= 0xdf) return 2;
    if (first >= 0xe0 && first <= 0xef) {
        if (first == 0xe0) *low = 0xa0;
        if (first == 0xed) *high = 0x9f;
        return 3;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        if (first == 0xf0) *low = 0x90;
        if (first == 0xf4) *high = 0x8f;
        return 4;
    }
    return 0;
}

size_t cohort_utf8_prefix(const uint8_t *bytes, size_t count) {
    size_t i = 0;
    while (i < count) {
        // Most text is ASCII.
        while (count - i >= 64) {
            uint64_t words[8], high = 0;
            memcpy(words, bytes + i, 64);
            for (int j = 0; j < 8; j++) high |= words[j];
            if (high & 0x8080808080808080) break;
            i += 64;
        }
        for (size_t end = count - i < 64 ? count : i + 64; i < end;) {
            if (bytes[i] < 0x80) {
                i++;
                continue;
            }
            uint8_t low, high;
            const size_t length = character(bytes[i], &low, &high);
            if (!length || count - i < length || bytes[i + 1] < low || bytes[i + 1] > high) return i;
            for (size_t j = 2; j < length; j++)
                if (bytes[i + j] < 0x80 || bytes[i + j] > 0xbf) return i;
            i += length;
        }
    }
    return i;
}

// MARK: Splitting

// One bit a byte of a block of 64: what ends a field, what of it ends a record, what is not plain.
typedef struct {
    uint64_t ends, breaks, odd, returns;
} masks;

#if defined(__SSE2__)
static inline masks look(const uint8_t *bytes, uint8_t delimiter) {
    const __m128i delimiters = _mm_set1_epi8((char)delimiter), feed = _mm_set1_epi8('\n'), carriage = _mm_set1_epi8('\r'),
                  quote = _mm_set1_epi8('"'), zero = _mm_setzero_si128();
    masks found = {0, 0, 0, 0};
    for (int i = 0; i < 4; i++) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(bytes + 16 * i));
        const __m128i breaks = _mm_cmpeq_epi8(x, feed);
        // The sign bit of x itself is that of a byte past ASCII.
        const __m128i odd = _mm_or_si128(x, _mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, zero)));
        found.ends |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_or_si128(breaks, _mm_cmpeq_epi8(x, delimiters))) << (16 * i);
        found.breaks |= (uint64_t)(uint32_t)_mm_movemask_epi8(breaks) << (16 * i);
        found.odd |= (uint64_t)(uint32_t)_mm_movemask_epi8(odd) << (16 * i);
        found.returns |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, carriage)) << (16 * i);
    }
    return found;
}

// In the middle of a wide record there are digits and delimiters alone, and little to look for: nothing below 14 (line breaks, a zero, and by
// its sign all past ASCII) and no quote. Otherwise false, and `ends` is not to be used.
static inline int look_within(const uint8_t *bytes, uint8_t delimiter, uint64_t *ends) {
    const __m128i delimiters = _mm_set1_epi8((char)delimiter), control = _mm_set1_epi8(14), quote = _mm_set1_epi8('"');
    __m128i other = _mm_setzero_si128();
    *ends = 0;
    for (int i = 0; i < 4; i++) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(bytes + 16 * i));
        other = _mm_or_si128(other, _mm_or_si128(_mm_cmplt_epi8(x, control), _mm_cmpeq_epi8(x, quote)));
        *ends |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, delimiters)) << (16 * i);
    }
    return _mm_movemask_epi8(other) == 0;
}
#else
static inline int look_within(const uint8_t *bytes, uint8_t delimiter, uint64_t *ends) { return 0; }

static inline masks look(const uint8_t *bytes, uint8_t delimiter) {
    masks found = {0, 0, 0, 0};
    for (int i = 0; i < 64; i++) {
        const uint8_t x = bytes[i];
        found.ends |= (uint64_t)(x == delimiter || x == '\n') << i;
        found.breaks |= (uint64_t)(x == '\n') << i;
        found.odd |= (uint64_t)(x == '"' || x == 0 || x >= 0x80) << i;
        found.returns |= (uint64_t)(x == '\r') << i;
    }
    return found;
}
#endif

// Writes where the fields after these ends start: eight at a time, those past the last for nothing, as a loop of exact length would be
// mispredicted at each block.
static inline size_t write_starts(uint64_t ends, size_t at, uint32_t *starts) {
    const size_t count = (size_t)__builtin_popcountll(ends);
    for (size_t i = 0; i < count; i += 8)
        for (size_t j = 0; j < 8; j++, ends &= ends - 1)
            starts[i + j] = (uint32_t)(at + (size_t)__builtin_ctzll(ends | (uint64_t)1 << 63) + 1);
    return count;
}

cohort_csv_split cohort_csv_split_records(
    const uint8_t *bytes, size_t count, uint8_t delimiter, uint32_t *starts, uint32_t *lasts, size_t limit) {
    cohort_csv_split split = {0, 0, 0, COHORT_CSV_END};
    size_t fields = 0;
    starts[0] = 0;
    for (size_t at = 0; at < count; at += 64) {
        if (fields >= limit) {
            split.stop = COHORT_CSV_FULL;
            break;
        }
        masks found;
        uint64_t valid = ~(uint64_t)0;
        if (count - at >= 64 && look_within(bytes + at, delimiter, &found.ends)) {
            fields += write_starts(found.ends, at, starts + fields + 1);
            continue;
        }
        if (count - at >= 64) {
            found = look(bytes + at, delimiter);
        } else {
            uint8_t rest[64] = {0};
            memcpy(rest, bytes + at, count - at);
            found = look(rest, delimiter);
            valid = ((uint64_t)1 << (count - at)) - 1;
        }
        if (found.returns) {
            // A carriage return is part of the line feed after it; alone it is odd, and at the end of the bytes it is not known yet.
            const uint64_t next = count - at > 64 && bytes[at + 64] == '\n';
            found.odd |= found.returns & ~(found.breaks >> 1 | next << 63);
        }
        found.odd &= valid;
        if (found.odd) valid &= (found.odd & -found.odd) - 1;
        const uint64_t ends = found.ends & valid;
        for (uint64_t breaks = found.breaks & valid; breaks; breaks &= breaks - 1) {
            const uint64_t upTo = breaks ^ (breaks - 1);
            lasts[split.records++] = (uint32_t)(split.fields = fields + (size_t)__builtin_popcountll(ends & upTo));
            split.used = at + (size_t)__builtin_ctzll(breaks) + 1;
        }
        fields += write_starts(ends, at, starts + fields + 1);
        if (found.odd) {
            split.stop = COHORT_CSV_ODD;
            break;
        }
    }
    return split;
}

// MARK: Numbers

static const double powers_of_ten[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                         1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static const uint64_t zeros = 0x3030303030303030;

// The last 8 bytes of bytes[start ..< end]; '0' stands for those before it. 1 ... 8 of them are asked for.
static inline uint64_t word_of(const uint8_t *bytes, size_t start, size_t end) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (end >= 8) {
        uint64_t word;
        memcpy(&word, bytes + end - 8, 8);
        const uint64_t mask = ~(uint64_t)0 << (64 - 8 * (end - start));
        return (word & mask) | (zeros & ~mask);
    }
#endif
    uint64_t word = zeros;
    for (size_t i = start; i < end; i++) word = word >> 8 | (uint64_t)bytes[i] << 56;
    return word;
}

// A sign, digits, a point and digits, of which the double is exact or rounded once: what Cell.number takes without the slow way.
static int decimal(const uint8_t *bytes, size_t start, size_t end, int comma, double *value) {
    const int negative = bytes[start] == '-';
    if (negative || bytes[start] == '+') start++;
    const size_t first = start;
    uint64_t mantissa = 0;
    size_t exponent = 0;
    for (; start < end && bytes[start] - '0' < 10u; start++) mantissa = mantissa * 10 + (bytes[start] - '0');
    size_t digits = start - first;
    if (start < end && (bytes[start] == '.' || (comma && bytes[start] == ','))) {
        const size_t point = ++start;
        for (; start < end && bytes[start] - '0' < 10u; start++) mantissa = mantissa * 10 + (bytes[start] - '0');
        exponent = start - point;
        digits += exponent;
    }
    // 18 digits fit 64 bits; with more, the mantissa is nonsense and is not used.
    if (start != end || digits == 0 || digits > 18 || mantissa >= (uint64_t)1 << 53) return 0;
    const double magnitude = exponent ? (double)mantissa / powers_of_ten[exponent] : (double)mantissa;
    *value = negative ? -magnitude : magnitude;
    return 1;
}

enum kind { ODD, WHOLE, DECIMAL };

typedef struct {
    size_t start, end;
} extent;

// A field without spaces around it.
static inline extent trimmed(const cohort_csv_record *record, size_t field) {
    size_t start = record->starts[field], end = record->starts[field + 1] - record->gap;
    if (record->gap && end > start && record->bytes[end - 1] == '\r') end--;
    while (start < end && (record->bytes[start] == ' ' || record->bytes[start] == '\t')) start++;
    while (start < end && (record->bytes[end - 1] == ' ' || record->bytes[end - 1] == '\t')) end--;
    return (extent){start, end};
}

__attribute__((noinline)) static enum kind decimal_field(const cohort_csv_record *record, size_t field, int comma, double *value) {
    const extent text = trimmed(record, field);
    return text.start < text.end && decimal(record->bytes, text.start, text.end, comma, value) ? DECIMAL : ODD;
}

// One digit is the most common number. Up to 8 at once, without a branch that depends on them (Lemire, "Quickly parsing eight digits"); all else digit by digit.
__attribute__((always_inline)) static inline enum kind number(const cohort_csv_record *record, size_t field, int comma, double *value) {
    const size_t start = record->starts[field], end = record->starts[field + 1] - record->gap;
    if (end - start == 1 && (uint8_t)(record->bytes[start] - '0') < 10) {
        *value = record->bytes[start] - '0';
        return WHOLE;
    }
    if (end - start - 1 < 8) {
        uint64_t word = word_of(record->bytes, start, end);
        const uint64_t high = 0xf0f0f0f0f0f0f0f0;
        if (((word & high) | ((word + 0x0606060606060606) & high) >> 4) == 0x3333333333333333) {
            word -= zeros;
            word = word * 10 + (word >> 8);
            const uint64_t low = 0x000000ff000000ff;
            word = ((word & low) * 0x000f424000000064 + (word >> 16 & low) * 0x0000271000000001) >> 32;
            *value = (double)(int32_t)(uint32_t)word;
            return WHOLE;
        }
    }
    return decimal_field(record, field, comma, value);
}

size_t cohort_csv_standardize(
    const cohort_csv_record *record, size_t from, size_t to, int comma, const double *mean, const double *std, float *out) {
    const cohort_csv_record fields = *record;
    // First the numbers of a few fields, then what the compiler can do at once with all of them.
    enum { few = 32 };
    double values[few];
    size_t i = from;
    while (i < to) {
        const size_t wanted = to - i < few ? to - i : few;
        size_t count = 0;
        while (count < wanted && number(&fields, i + count, comma, values + count) != ODD) count++;
        const size_t at = i - from;
        int all_finite = 1;
        for (size_t j = 0; j < count; j++) {
            const float feature = (float)((values[j] - mean[at + j]) / std[at + j]);
            out[at + j] = feature;
            all_finite &= fabsf(feature) <= FLT_MAX;
        }
        if (!all_finite) {
            while (fabsf(out[i - from]) <= FLT_MAX) i++;
            return i;
        }
        i += count;
        if (count < wanted) return i;
    }
    return to;
}

// MARK: Columns

void cohort_distinct_add(cohort_distinct *distinct, double number) {
    if (number >= 0 && number < 256 && number == (uint8_t)number && !signbit(number)) {
        distinct->small[(uint8_t)number >> 6] |= UINT64_C(1) << ((uint8_t)number & 63);
        return;
    }
    uint64_t key;
    memcpy(&key, &number, sizeof key);
    if (key == distinct->last && distinct->count) return;
    distinct->last = key;
    uint64_t hash = key * 0x9e3779b97f4a7c15u;
    for (size_t slot = hash ^ hash >> 32;; slot++) {
        uint64_t *place = distinct->slots + (slot & (distinct->capacity - 1));
        if (*place == key) return;
        if (*place != UINT64_MAX) continue;
        *place = key;
        distinct->count++;
        return;
    }
}

void cohort_csv_column_add(cohort_csv_column *column, double number) {
    if (column->distinct && column->distinct->slots) cohort_distinct_add(column->distinct, number);
    if (!column->is_fractional && number != round(number)) column->is_fractional = 1;
    if (!column->falls) {
        if (column->numbers == 0) {
            column->first_number = number;
        } else {
            if (number != column->previous + 1) column->skips = 1;
            if (number <= column->previous) column->falls = 1;
        }
        column->previous = number;
    }
    column->numbers++;
}

size_t cohort_csv_scan(const cohort_csv_record *record, size_t from, size_t to, int comma, cohort_csv_column *columns) {
    const cohort_csv_record fields = *record;
    for (size_t i = from; i < to; i++) {
        cohort_csv_column *column = columns + i;
        double value;
        const enum kind kind = number(&fields, i, comma, &value);
        if (kind == ODD) return i;
        cohort_distinct *distinct = column->distinct && column->distinct->slots ? column->distinct : NULL;
        if (distinct && distinct->count * 2 >= distinct->capacity) return i;
        const uint8_t *text = fields.bytes + fields.starts[i];
        if (*text == '0' && fields.starts[i + 1] - fields.gap - fields.starts[i] > 1 && (uint8_t)(text[1] - '0') < 10) {
            column->has_leading_zero = 1;
        }
        if (!column->varies) {
            // The first value, and one to compare with a long one, are not for here.
            if (column->first_length - 1u >= 8) return i;
            const extent value_text = trimmed(&fields, i);
            column->varies = value_text.end - value_text.start != column->first_length
                || word_of(fields.bytes, value_text.start, value_text.end) != column->first_word;
        }
        // Most columns are soon known to be neither constant nor counting.
        if (column->falls && (kind == WHOLE || column->is_fractional)) {
            if (distinct) cohort_distinct_add(distinct, value);
            column->numbers++;
        } else {
            cohort_csv_column_add(column, value);
        }
    }
    return to;
}

void cohort_moments_add(cohort_moments *moments, double value) {
    if (moments->count == 0) moments->least = moments->largest = value;
    if (value < moments->least) moments->least = value;
    if (value > moments->largest) moments->largest = value;
    moments->count += 1;
    const double delta = value - moments->mean;
    moments->mean += delta / moments->count;
    moments->squares += delta * (value - moments->mean);
}

size_t cohort_csv_add_moments(const cohort_csv_record *record, size_t from, size_t to, int comma, cohort_moments *moments) {
    const cohort_csv_record fields = *record;
    for (size_t i = from; i < to; i++) {
        double value;
        if (number(&fields, i, comma, &value) == ODD) return i;
        cohort_moments_add(moments + i, value);
    }
    return to;
}
