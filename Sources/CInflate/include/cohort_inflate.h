// zlib's inflate, as a stream.
#ifndef COHORT_INFLATE_H
#define COHORT_INFLATE_H

#include <stddef.h>
#include <stdint.h>

typedef struct cohort_inflate cohort_inflate;

enum cohort_inflate_outcome {
    /// More input, or more room for output, is needed.
    COHORT_INFLATE_GOES_ON = 0,
    COHORT_INFLATE_ENDED = 1,
    COHORT_INFLATE_DAMAGED = 2,
};

/// - isGzip: with gzip's header and checksum; else the bare stream of a ZIP's member.
/// - Returns NULL when memory is short.
cohort_inflate *cohort_inflate_make(int isGzip);
void cohort_inflate_free(cohort_inflate *stream);

/// Takes from `input` and gives to `output`; `inputCount` and `outputCount` become what was taken and given.
enum cohort_inflate_outcome cohort_inflate_step(
    cohort_inflate *stream, const uint8_t *input, size_t *inputCount, uint8_t *output, size_t *outputCount);

/// The CRC-32 of what `crc` is of, and then of `bytes`; begins with 0.
uint32_t cohort_crc32(uint32_t crc, const uint8_t *bytes, size_t count);

#endif
