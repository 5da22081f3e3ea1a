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
