// What a training step does, in C: products of small matrices, element-wise passes, losses, optimizers. All arrays are row-major 32-bit
// floats; nothing here allocates, blocks or keeps state. The order of every sum is fixed, so the same input gives the same bits.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// A few threads that share out the pieces of one job at a time.
struct cohort_threads;

/// `count` threads, the one that calls ``cohort_threads_run`` included; NULL without memory.
struct cohort_threads *cohort_threads_make(int count);

/// Waits for them to end.
void cohort_threads_free(struct cohort_threads *threads);

/// Calls `work` for each piece below `pieces` (at most 65,535), and returns when all are done. From one thread at a time.
void cohort_threads_run(struct cohort_threads *threads, size_t pieces, void (*work)(void *context, size_t piece), void *context);

enum cohort_activation { COHORT_LINEAR = 0, COHORT_RELU = 1, COHORT_TANH = 2, COHORT_SIGMOID = 3 };

/// out[i, :] = table[rows[i], :], i < count; many floats are shared out among `threads` (NULL: this one alone).
void cohort_gather(
    struct cohort_threads *threads, const float *table, size_t width, const uint32_t *rows, size_t count, float *out);

/// How columns of a packed record become features.
enum cohort_packed_kind {
    COHORT_PACKED_CONSTANT,     ///< nothing is in the record; all rows have the first vector
    COHORT_PACKED_FLOATS,       ///< `width` floats
    COHORT_PACKED_U8,           ///< a code in one byte: the number of a vector
    COHORT_PACKED_U16,          ///< a code in two bytes
    COHORT_PACKED_ONE_HOT_U8,   ///< the feature that is 1; `width`: none is
    COHORT_PACKED_ONE_HOT_U16,
};

/// Columns of one kind and width whose values follow one another in the record, and whose features follow one another.
struct cohort_packed_run {
    enum cohort_packed_kind kind;
    size_t columns;
    /// The first byte in the record.
    size_t offset;
    /// The first feature.
    size_t feature;
    /// Features of a column.
    size_t width;
    /// The vectors of each column.
    const float *const *vectors;
};

struct cohort_packed_layout {
    size_t record_bytes, width;
    const struct cohort_packed_run *runs;
    size_t run_count;
    /// The target: `COHORT_PACKED_FLOATS`, or a class as `COHORT_PACKED_U8` or `COHORT_PACKED_U16`.
    enum cohort_packed_kind target;
    size_t target_offset;
};

/// out[i, :] = the features of the record rows[i], targets[i] = its target, i < count; many are shared out among `threads`. Codes are not checked here.
void cohort_gather_packed(
    struct cohort_threads *threads, const void *records, const struct cohort_packed_layout *layout, const uint32_t *rows, size_t count,
    float *out, float *targets);

/// A column whose code is the feature that is 1.
struct cohort_code_column {
    /// The first byte in the record, and how many there are: 1 or 2.
    size_t offset, bytes;
    /// Codes below this one are features, the others none.
    size_t features;
    /// The row of the weights [in, out] that belongs to code 0.
    size_t first_row;
};

/// out[i, k] = the row of the weights that column k of record rows[i] takes, or -1, i < count.
void cohort_gather_codes(
    const void *records, size_t record_bytes, const struct cohort_code_column *columns, size_t column_count, const uint32_t *rows,
    size_t count, int32_t *out);

/// z[i, :] += the sum over k of weights[codes[i, k], :], in the order of k: the product with features that are 0 or 1, without the zeros.
void cohort_add_code_rows(
    struct cohort_threads *threads, const int32_t *codes, size_t column_count, size_t count, const float *weights, size_t width, float *z);

/// gradient[codes[i, k], :] = the sum of dz[i, :], in the order of i; the rows first_row ... first_row + row_count that no code names are 0.
void cohort_code_gradient(
    struct cohort_threads *threads, const int32_t *codes, size_t column_count, size_t count, const float *dz, size_t width, size_t first_row,
    size_t row_count, float *gradient);

/// C [rows, columns] = A · B + bias, for small matrices. A's element (i, p) stands at a[i * a_row + p * a_step]; B's element (p, j) at
/// b[p * b_row + j], or with `b_transposed` at b[j * b_row + p]. `bias` [columns] may be NULL. With `relu`, C becomes max(C, 0). `gate`
/// [rows, columns], if not NULL, sets C to 0 where it is not positive. `panel`: room for 16 * inner floats.
void cohort_gemm(
    size_t rows, size_t columns, size_t inner, const float *a, size_t a_row, size_t a_step, const float *b, size_t b_row,
    int b_transposed, float *c, const float *bias, int relu, const float *gate, float *panel);

/// z[i, j] = activation(z[i, j] + bias[j]).
void cohort_bias_activate(float *z, const float *bias, size_t rows, size_t width, int activation);

/// z[i] = activation(z[i]).
void cohort_activate(float *z, size_t count, int activation);

/// gradient *= activation'(.), told from the activation's own output.
void cohort_activation_gradient(float *gradient, const float *output, size_t count, int activation);

/// out[j] = sum over i of gradient[i, j].
void cohort_column_sums(const float *gradient, size_t rows, size_t width, float *out);

/// Softmax over each row, in place.
void cohort_softmax(float *logits, size_t rows, size_t width);

/// Sum of cross-entropies of logits against class indices; the logits are used up. *correct gets the number of rows whose first largest
/// logit is the class. With `gradient`, logits become (softmax - onehot) / rows. With `weights`, one a class, a row counts as much as its class
/// weighs: the sum is rows × the weighted mean, and the gradient that mean's.
double cohort_cross_entropy(
    float *logits, const float *targets, size_t rows, size_t width, const float *weights, int gradient, int64_t *correct);

/// As `cohort_cross_entropy` with `gradient`, for targets that share out `smoothing` (0 ..< 1) of themselves among all classes, as PyTorch's
/// CrossEntropyLoss(weight, label_smoothing) does: class j of a row of class c has (1 - smoothing)·w[c]·[j = c] + smoothing·w[j] / width, and the
/// whole is divided by the sum of w[c]. `weights` may be NULL: all 1.
double cohort_smoothed_cross_entropy(
    float *logits, const float *targets, size_t rows, size_t width, const float *weights, float smoothing, int64_t *correct);

/// Scales a vector whose Euclidean norm is above `most` down to it, as PyTorch's clip_grad_norm_ does.
void cohort_clip(float *g, size_t count, float most);

/// w -= share·(w - anchor).
void cohort_pull(float *w, const float *anchor, size_t count, float share);

/// w -= share·d.
void cohort_shift(float *w, const float *d, size_t count, float share);

// What travels in fewer bytes; blocks of 1,024 numbers.

/// codes = (x + rest) / scale, to the nearest even, scale = the block's largest / 127; rest = what that leaves of x + rest (NULL: nothing is added or left).
void cohort_to_int8(int8_t *codes, float *scales, const float *x, float *rest, size_t count);

/// x >= 0: 255 + 8 log2(x / scale), from 1, scale = the block's largest; 0 for 0.
void cohort_to_log8(uint8_t *codes, float *scales, const float *x, size_t count);

/// Numbers from the `first` of their stream on, with the scales of the whole stream.
void cohort_from_int8(float *x, const int8_t *codes, const float *scales, size_t first, size_t count);
void cohort_from_log8(float *x, const uint8_t *codes, const float *scales, size_t first, size_t count);

/// halves: IEEE's (at most ±65504), or bfloat16 with `brain`, to the nearest even. `rest` as above.
void cohort_to_half(uint16_t *halves, const float *x, float *rest, size_t count, int brain);
void cohort_from_half(float *x, const uint16_t *halves, size_t count, int brain);

/// x += y.
void cohort_add(float *x, const float *y, size_t count);

// Several updates become one, a slice at a time; bits do not depend on the machine.

/// sums += weight · x.
void cohort_accumulate(double *sums, const float *x, double weight, size_t count);

/// to = from, rounded to nearest.
void cohort_narrow(float *to, const double *from, size_t count);

/// to = scale · (x - start).
void cohort_changes(double *to, const float *x, const float *start, double scale, size_t count);

/// products[i, j] += changes[i, :] · changes[j, :] for j <= i (and some above), of [rows, width], of which the first `count` columns count; shared out
/// among `threads` (NULL: this one alone).
void cohort_gram(struct cohort_threads *threads, double *products, const double *changes, size_t rows, size_t width, size_t count);

/// dots[0] += (x - start) · (combined - start), dots[1] += (x - start)².
void cohort_dots(const float *x, const float *start, const float *combined, size_t count, double *dots);

/// sums[i % 4] += x[i] - start[i], or its square; `start` may be NULL for zeros.
/// Returns 1 if any x is not finite, + 2 if any is negative.
uint32_t cohort_inspect(double *sums, const float *x, const float *start, size_t count, bool is_squared);

/// out[c] = mean of the low ..< high smallest of rows[:][c]. `pairs` is a sorting network of `count` places: of each pair the smaller value comes to its first
/// place. `scratch` has 16 · count floats.
void cohort_middle(
    const float *const *rows, size_t count, size_t columns, const uint32_t *pairs, size_t pair_count, size_t low, size_t high, float *scratch,
    float *out);

/// By what a number's outputs are moved: not at all, by 2 (y - t) / rows, by the sign of y - t / rows, by y - t within -1 ... 1 / rows.
enum cohort_number_loss { COHORT_NO_GRADIENT = 0, COHORT_MSE = 1, COHORT_L1 = 2, COHORT_HUBER = 3 };

/// Sum of squared errors; outputs become the gradient of the mean loss that is named. sums[0] += t, sums[1] += t².
double cohort_squared_error(float *outputs, const float *targets, size_t rows, enum cohort_number_loss gradient, double *sums);

/// mask[i] != 0 keeps: x[i] = mask[i] ? x[i] * scale : 0.
void cohort_dropout(float *x, const uint8_t *mask, size_t count, float scale);

/// PyTorch's SGD: g += decay·w; velocity = first ? g : momentum·velocity + g; w -= lr·(nesterov ? g + momentum·velocity : velocity).
void cohort_sgd(float *w, float *g, float *velocity, size_t count, float lr, float momentum, int nesterov, float decay, int first);

/// As many of `cohort_adam`'s elements as are worth a thread, shared out.
void cohort_adam_shared(
    struct cohort_threads *threads, float *w, const float *g, float *m, float *v, size_t count, float lr, float beta1, float beta2,
    float epsilon, float decay, int decoupled, float correction1, float correction2);

/// PyTorch's Adam (decoupled = 0: g += decay·w) and AdamW (decoupled = 1: w -= lr·decay·w). corrections: 1 - beta^t.
void cohort_adam(
    float *w, const float *g, float *m, float *v, size_t count, float lr, float beta1, float beta2, float epsilon, float decay,
    int decoupled, float correction1, float correction2);

/// The codes of a column's features, as a hash table.
struct cohort_code_table {
    /// The features' bits; all bits set: nothing is there.
    const uint32_t *keys;
    const uint16_t *codes;
    /// A slot is the first bits of a multiplicative hash of 32 bits: 32 - log2(slots), in 1 ... 31.
    uint32_t shift;
};

/// The slot in which the search for a feature's bits begins; it goes on in the next, the first after the last.
uint32_t cohort_code_slot(uint32_t key, uint32_t shift);

/// Finds codes: the one of features[i], in table i, is written to `out` in `bytes` bytes (1 or 2), i < count. Returns the first feature that is not in
/// its table; else `count`.
size_t cohort_find_codes(const float *features, size_t count, const struct cohort_code_table *tables, void *out, size_t bytes);

/// Opens a BLAS: the library at `path`, or with NULL the one that the system has. Returns what it says it is, or NULL when there is none.
/// Once open it stays. Call it from one thread at a time.
const char *cohort_blas_open(const char *path);

/// C [rows, columns] = op(A) · op(B) by the BLAS that was opened, shared out among `threads` (NULL: this one alone); the bits are the same
/// whatever their number. `a_row`, `b_row`: floats from one stored row to the next.
void cohort_blas_sgemm(
    struct cohort_threads *threads, int transpose_a, int transpose_b, size_t rows, size_t columns, size_t inner, const float *a,
    size_t a_row, const float *b, size_t b_row, float *c);

// MARK: Text

/// How many bytes at the start are whole characters of UTF-8 (no overlong forms, no surrogates); what is behind them is no UTF-8, or a
/// character whose rest is not there (fewer than 4 bytes).
size_t cohort_utf8_prefix(const uint8_t *bytes, size_t count);

// MARK: CSV
//
// The common case of a CSV, fast: records without quotes, in ASCII, whose cells are short decimal numbers. Whatever else there is, these
// functions stop at and leave to Swift, which knows every case. Nothing here reads outside the bytes it is given.

/// One record: field i is bytes[starts[i] ..< starts[i + 1] - gap].
typedef struct {
    const uint8_t *bytes;
    /// count + 1 of them.
    const uint32_t *starts;
    size_t count;
    /// 1: fields as the file has them, a separator after each. 0: unquoted fields, back to back.
    size_t gap;
    /// The line it begins on, from 1.
    size_t line;
} cohort_csv_record;

/// Why splitting stopped: at the end of the bytes; at `limit`; at a record with a byte in it (a quote, a zero, a lone carriage return, one
/// past ASCII) that is not for here.
enum cohort_csv_stop { COHORT_CSV_END = 0, COHORT_CSV_FULL = 1, COHORT_CSV_ODD = 2 };

typedef struct {
    /// Whole records found, their bytes and their fields.
    size_t records, used, fields;
    enum cohort_csv_stop stop;
} cohort_csv_split;

/// Splits bytes into the whole records at their start, as long as each is plain, up to `limit` fields. starts[0 ... fields] gets where fields
/// start (room for limit + 72 is needed), lasts[i] the number of fields up to and with record i.
cohort_csv_split cohort_csv_split_records(
    const uint8_t *bytes, size_t count, uint8_t delimiter, uint32_t *starts, uint32_t *lasts, size_t limit);

/// out[i - from] = (field i - mean[i - from]) / std[i - from], i in from ..< to. With `comma`, 3,5 is a number.
/// Returns the first field that is not a plain number or whose result is not finite; else `to`.
size_t cohort_csv_standardize(
    const cohort_csv_record *record, size_t from, size_t to, int comma, const double *mean, const double *std, float *out);

/// The different numbers of a column, as a hash table of their bits. The memory is the caller's.
typedef struct {
    /// All bits set: nothing is there. NULL: there are too many numbers, and no more are kept.
    uint64_t *slots;
    /// A power of 2, at least 2.
    size_t capacity;
    size_t count;
    /// The most numbers that are kept.
    size_t limit;
    /// The number that came last.
    uint64_t last;
    /// Whole numbers below 256, a bit each: pixels, flags and counts need no hash.
    uint64_t small[4];
} cohort_distinct;

/// Keeps a number. At most half of the slots are taken before.
void cohort_distinct_add(cohort_distinct *distinct, double number);

/// What is known of a column whose values are numbers so far. All zero: nothing was seen.
typedef struct {
    size_t numbers;
    /// The number before this one, as long as they rise.
    double previous;
    double first_number;
    /// The text of the first value when it has at most 8 bytes: right-aligned, '0' before it.
    uint64_t first_word;
    /// 0: no value was seen yet; 255: it is longer.
    uint8_t first_length;
    uint8_t varies, is_fractional, falls, skips;
    /// A value was written with a 0 in front of another digit, as codes are: 02116.
    uint8_t has_leading_zero;
    /// NULL: different numbers are not told apart.
    cohort_distinct *distinct;
} cohort_csv_column;

/// Takes fields from ..< to into their columns. Returns the first that needs more than this, such as room for another number; else `to`.
size_t cohort_csv_scan(const cohort_csv_record *record, size_t from, size_t to, int comma, cohort_csv_column *columns);

/// Takes a number into its column, which has room for it.
void cohort_csv_column_add(cohort_csv_column *column, double number);

/// Mean and sum of squared differences from it, in one pass (Welford 1962); the least and the largest value.
typedef struct {
    double count, mean, squares, least, largest;
} cohort_moments;

void cohort_moments_add(cohort_moments *moments, double value);

/// Adds fields from ..< to to their moments. Returns the first that is not a plain number; else `to`.
size_t cohort_csv_add_moments(const cohort_csv_record *record, size_t from, size_t to, int comma, cohort_moments *moments);
