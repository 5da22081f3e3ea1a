#include "CKernels.h"

#include <string.h>

// Records are little-endian and unaligned; so are the machines that Cohort runs on.
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "packed records are read as they lie: a big-endian machine would need its bytes turned"
#endif

struct gather_packed {
    const uint8_t *records;
    const struct cohort_packed_layout *layout;
    const uint32_t *rows;
    size_t count, pieces;
    float *out, *targets;
};

static inline size_t u16_at(const uint8_t *bytes) {
    uint16_t code;
    memcpy(&code, bytes, sizeof code);
    return code;
}

static void expand(const uint8_t *record, const struct cohort_packed_run *run, float *out) {
    const uint8_t *in = record + run->offset;
    const size_t columns = run->columns, width = run->width;
    out += run->feature;
    switch (run->kind) {
        case COHORT_PACKED_CONSTANT:
            for (size_t k = 0; k < columns; k++) memcpy(out + k * width, run->vectors[k], width * sizeof(float));
            break;
        case COHORT_PACKED_FLOATS: memcpy(out, in, columns * width * sizeof(float)); break;
        case COHORT_PACKED_U8:
            if (width == 1) {
                for (size_t k = 0; k < columns; k++) out[k] = run->vectors[k][in[k]];
            } else {
                for (size_t k = 0; k < columns; k++) memcpy(out + k * width, run->vectors[k] + in[k] * width, width * sizeof(float));
            }
            break;
        case COHORT_PACKED_U16:
            for (size_t k = 0; k < columns; k++) memcpy(out + k * width, run->vectors[k] + u16_at(in + 2 * k) * width, width * sizeof(float));
            break;
        case COHORT_PACKED_ONE_HOT_U8:
            memset(out, 0, columns * width * sizeof(float));
            for (size_t k = 0; k < columns; k++)
                if (in[k] < width) out[k * width + in[k]] = 1;
            break;
        case COHORT_PACKED_ONE_HOT_U16:
            memset(out, 0, columns * width * sizeof(float));
            for (size_t k = 0; k < columns; k++) {
                size_t code = u16_at(in + 2 * k);
                if (code < width) out[k * width + code] = 1;
            }
            break;
    }
}

static void gather_packed_piece(void *context, size_t piece) {
    const struct gather_packed *all = context;
    const struct cohort_packed_layout *layout = all->layout;
    for (size_t i = all->count * piece / all->pieces, end = all->count * (piece + 1) / all->pieces; i < end; i++) {
        const uint8_t *record = all->records + (size_t)all->rows[i] * layout->record_bytes;
        for (size_t run = 0; run < layout->run_count; run++) expand(record, layout->runs + run, all->out + i * layout->width);
        const uint8_t *target = record + layout->target_offset;
        switch (layout->target) {
            case COHORT_PACKED_U8: all->targets[i] = *target; break;
            case COHORT_PACKED_U16: all->targets[i] = u16_at(target); break;
            default: memcpy(all->targets + i, target, sizeof(float));
        }
    }
}

void cohort_gather_packed(
    struct cohort_threads *threads, const void *records, const struct cohort_packed_layout *layout, const uint32_t *rows, size_t count,
    float *out, float *targets) {
    // As cohort_gather.
    struct gather_packed all = {records, layout, rows, count, count * layout->width >= 1 << 15 ? 4 : 1, out, targets};
    if (count < all.pieces) all.pieces = 1;
    cohort_threads_run(threads, all.pieces, gather_packed_piece, &all);
}

uint32_t cohort_code_slot(uint32_t key, uint32_t shift) { return key * 0x9e3779b1u >> shift; }

size_t cohort_find_codes(const float *features, size_t count, const struct cohort_code_table *tables, void *out, size_t bytes) {
    for (size_t i = 0; i < count; i++) {
        const struct cohort_code_table table = tables[i];
        uint32_t key;
        memcpy(&key, features + i, sizeof key);
        uint32_t slot = cohort_code_slot(key, table.shift);
        while (table.keys[slot] != key) {
            if (table.keys[slot] == UINT32_MAX) return i;
            slot = (slot + 1) & ((UINT32_C(1) << (32 - table.shift)) - 1);
        }
        if (bytes == 1) {
            ((uint8_t *)out)[i] = (uint8_t)table.codes[slot];
        } else {
            memcpy((uint8_t *)out + 2 * i, table.codes + slot, 2);
        }
    }
    return count;
}


void cohort_gather_codes(
    const void *records, size_t record_bytes, const struct cohort_code_column *columns, size_t column_count, const uint32_t *rows,
    size_t count, int32_t *out) {
    for (size_t i = 0; i < count; i++) {
        const uint8_t *record = (const uint8_t *)records + (size_t)rows[i] * record_bytes;
        for (size_t k = 0; k < column_count; k++) {
            const uint8_t *in = record + columns[k].offset;
            const size_t code = columns[k].bytes == 1 ? *in : u16_at(in);
            out[i * column_count + k] = code < columns[k].features ? (int32_t)(columns[k].first_row + code) : -1;
        }
    }
}

struct code_product {
    const int32_t *codes;
    size_t column_count, count, width, pieces, first_row, row_count;
    const float *in;
    float *out;
};

// Each piece has some of the outputs: the order of sums is that of the columns, or of the rows, however many threads there are.
static void add_code_rows_piece(void *context, size_t piece) {
    const struct code_product *all = context;
    const size_t start = all->width * piece / all->pieces, end = all->width * (piece + 1) / all->pieces;
    for (size_t i = 0; i < all->count; i++) {
        float *restrict z = all->out + i * all->width;
        for (size_t k = 0; k < all->column_count; k++) {
            const int32_t row = all->codes[i * all->column_count + k];
            if (row < 0) continue;
            const float *restrict w = all->in + (size_t)row * all->width;
            for (size_t j = start; j < end; j++) z[j] += w[j];
        }
    }
}

static void code_gradient_piece(void *context, size_t piece) {
    const struct code_product *all = context;
    const size_t start = all->width * piece / all->pieces, end = all->width * (piece + 1) / all->pieces;
    for (size_t r = all->first_row; r < all->first_row + all->row_count; r++)
        memset(all->out + r * all->width + start, 0, (end - start) * sizeof(float));
    for (size_t i = 0; i < all->count; i++) {
        const float *restrict dz = all->in + i * all->width;
        for (size_t k = 0; k < all->column_count; k++) {
            const int32_t row = all->codes[i * all->column_count + k];
            if (row < 0) continue;
            float *restrict g = all->out + (size_t)row * all->width;
            for (size_t j = start; j < end; j++) g[j] += dz[j];
        }
    }
}

static size_t code_pieces(size_t count, size_t columns, size_t width) { return count * columns * width >= 1 << 16 && width >= 64 ? 4 : 1; }

void cohort_add_code_rows(
    struct cohort_threads *threads, const int32_t *codes, size_t column_count, size_t count, const float *weights, size_t width, float *z) {
    struct code_product all = {codes, column_count, count, width, code_pieces(count, column_count, width), 0, 0, weights, z};
    cohort_threads_run(threads, all.pieces, add_code_rows_piece, &all);
}

void cohort_code_gradient(
    struct cohort_threads *threads, const int32_t *codes, size_t column_count, size_t count, const float *dz, size_t width, size_t first_row,
    size_t row_count, float *gradient) {
    struct code_product all = {codes, column_count, count, width, code_pieces(count, column_count, width), first_row, row_count, dz, gradient};
    cohort_threads_run(threads, all.pieces, code_gradient_piece, &all);
}
