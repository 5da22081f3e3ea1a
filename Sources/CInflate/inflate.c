#include "include/cohort_inflate.h"

#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

struct cohort_inflate {
    z_stream stream;
};

cohort_inflate *cohort_inflate_make(int isGzip) {
    cohort_inflate *made = calloc(1, sizeof *made);
    if (!made) return NULL;
    // Past 15 bits of window: 16 more mean gzip; negative, no header at all.
    if (inflateInit2(&made->stream, isGzip ? 15 + 16 : -15) != Z_OK) {
        free(made);
        return NULL;
    }
    return made;
}

void cohort_inflate_free(cohort_inflate *stream) {
    inflateEnd(&stream->stream);
    free(stream);
}

enum cohort_inflate_outcome cohort_inflate_step(
    cohort_inflate *stream, const uint8_t *input, size_t *inputCount, uint8_t *output, size_t *outputCount) {
    uInt in = *inputCount > UINT_MAX ? UINT_MAX : (uInt)*inputCount;
    uInt out = *outputCount > UINT_MAX ? UINT_MAX : (uInt)*outputCount;
    stream->stream.next_in = (Bytef *)input;
    stream->stream.avail_in = in;
    stream->stream.next_out = output;
    stream->stream.avail_out = out;
    int code = inflate(&stream->stream, Z_NO_FLUSH);
    *inputCount = in - stream->stream.avail_in;
    *outputCount = out - stream->stream.avail_out;
    if (code == Z_STREAM_END) return COHORT_INFLATE_ENDED;
    return code == Z_OK || code == Z_BUF_ERROR ? COHORT_INFLATE_GOES_ON : COHORT_INFLATE_DAMAGED;
}

uint32_t cohort_crc32(uint32_t crc, const uint8_t *bytes, size_t count) {
    while (count > 0) {
        uInt part = count > UINT_MAX ? UINT_MAX : (uInt)count;
        crc = (uint32_t)crc32(crc, bytes, part);
        bytes += part;
        count -= part;
    }
    return crc;
}
