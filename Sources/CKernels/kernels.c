#include "CKernels.h"
#include "vectors.h"

#include <math.h>

struct gather {
    const float *table;
    size_t width;
    const uint32_t *rows;
    size_t count, pieces;
    float *out;
};

static void gather_piece(void *context, size_t piece) {
    const struct gather *all = context;
    for (size_t i = all->count * piece / all->pieces, end = all->count * (piece + 1) / all->pieces; i < end; i++)
        memcpy(all->out + i * all->width, all->table + (size_t)all->rows[i] * all->width, all->width * sizeof(float));
}

void cohort_gather(
    struct cohort_threads *threads, const float *table, size_t width, const uint32_t *rows, size_t count, float *out) {
    // 128 KiB and more are worth a thread.
    struct gather all = {table, width, rows, count, count * width >= 1 << 15 ? 4 : 1, out};
    if (count < all.pieces) all.pieces = 1;
    cohort_threads_run(threads, all.pieces, gather_piece, &all);
}

/// Runs the block that follows for all of `count` elements: `i` is the first, `some` how many of a vector's lanes count.
#define EACH_VECTOR(count, ...)                           \
    do {                                                  \
        size_t i = 0;                                     \
        for (; i + LANES <= (count); i += LANES) {        \
            enum { some = LANES };                        \
            __VA_ARGS__                                   \
        }                                                 \
        if (i < (count)) {                                \
            size_t some = (count)-i;                      \
            __VA_ARGS__                                   \
        }                                                 \
    } while (0)

/// x = activation(x).
INLINE void activate(vector *x, int activation) {
    switch (activation) {
        case COHORT_LINEAR: break;
        // Written so that a NaN stays one: a diverged model must show.
        case COHORT_RELU: *x = *x < 0.0f ? (vector)0 : *x; break;
        case COHORT_TANH: hyperbolic_tangent(x); break;
        default: sigmoid(x);
    }
}

CLONES void cohort_bias_activate(float *restrict z, const float *restrict bias, size_t rows, size_t width, int activation) {
    for (size_t row = 0; row < rows; row++, z += width)
        EACH_VECTOR(width, {
            vector x, b;
            get(&x, z + i, some);
            get(&b, bias + i, some);
            x += b;
            activate(&x, activation);
            put(z + i, &x, some);
        });
}

CLONES void cohort_activate(float *z, size_t count, int activation) {
    if (activation == COHORT_LINEAR) return;
    EACH_VECTOR(count, {
        vector x;
        get(&x, z + i, some);
        activate(&x, activation);
        put(z + i, &x, some);
    });
}

CLONES void cohort_activation_gradient(float *restrict gradient, const float *restrict output, size_t count, int activation) {
    if (activation == COHORT_LINEAR) return;
    EACH_VECTOR(count, {
        vector g, y;
        get(&g, gradient + i, some);
        get(&y, output + i, some);
        switch (activation) {
            case COHORT_RELU: g = y > 0.0f ? g : (vector)0; break;
            case COHORT_TANH: g *= 1.0f - y * y; break;
            default: g *= y * (1.0f - y);
        }
        put(gradient + i, &g, some);
    });
}

CLONES void cohort_column_sums(const float *restrict gradient, size_t rows, size_t width, float *restrict out) {
    // A vector of columns at a time, so that the sums stay in a register.
    EACH_VECTOR(width, {
        vector sum = 0;
        for (size_t row = 0; row < rows; row++) {
            vector x;
            get(&x, gradient + row * width + i, some);
            sum += x;
        }
        put(out + i, &sum, some);
    });
}

/// Each row less its largest element, which becomes 0. Returns the position of the first largest.
INLINE size_t shift_row(float *row, size_t width) {
    size_t best = 0;
    for (size_t j = 1; j < width; j++) best = row[j] > row[best] ? j : best;
    float most = row[best];
    for (size_t j = 0; j < width; j++) row[j] -= most;
    return best;
}

INLINE void exponentials(float *values, size_t count) {
    EACH_VECTOR(count, {
        vector x;
        get(&x, values + i, some);
        exponential(&x);
        put(values + i, &x, some);
    });
}

INLINE float sum_row(const float *row, size_t width) {
    float sum = 0;
    for (size_t j = 0; j < width; j++) sum += row[j];
    return sum;
}

CLONES void cohort_softmax(float *logits, size_t rows, size_t width) {
    for (size_t row = 0; row < rows; row++) shift_row(logits + row * width, width);
    exponentials(logits, rows * width);
    for (size_t row = 0; row < rows; row++, logits += width) {
        float share = 1 / sum_row(logits, width);
        for (size_t j = 0; j < width; j++) logits[j] *= share;
    }
}

CLONES double cohort_cross_entropy(
    float *logits, const float *targets, size_t rows, size_t width, const float *weights, int gradient, int64_t *correct) {
    double loss = 0;
    float total = weights ? 0 : (float)rows;
    for (size_t row = 0; row < rows; row++) {
        size_t own = (size_t)targets[row];
        *correct += shift_row(logits + row * width, width) == own;
        if (weights) total += weights[own];
        loss -= (weights ? (double)weights[own] : 1) * (double)logits[row * width + own];
    }
    // All rows at once: rows are often shorter than a vector.
    exponentials(logits, rows * width);
    for (size_t row = 0; row < rows; row++, logits += width) {
        float weight = weights ? weights[(size_t)targets[row]] : 1;
        float scale = weight / total;
        float sum = sum_row(logits, width);
        loss += (double)weight * (double)logf(sum);
        if (!gradient) continue;
        float share = scale / sum;
        for (size_t j = 0; j < width; j++) logits[j] *= share;
        logits[(size_t)targets[row]] -= scale;
    }
    return weights ? loss * (double)rows / (double)total : loss;
}

double cohort_smoothed_cross_entropy(
    float *logits, const float *targets, size_t rows, size_t width, const float *weights, float smoothing, int64_t *correct) {
    double loss = 0, total = 0;
    float spread = smoothing / (float)width, all = 0;
    for (size_t j = 0; j < width; j++) all += weights ? weights[j] : 1;
    for (size_t row = 0; row < rows; row++) total += weights ? weights[(size_t)targets[row]] : 1;
    for (size_t row = 0; row < rows; row++) {
        size_t own = (size_t)targets[row];
        float *z = logits + row * width;
        *correct += shift_row(z, width) == own;
        loss -= (double)((1 - smoothing) * (weights ? weights[own] : 1)) * (double)z[own];
        for (size_t j = 0; j < width; j++) loss -= (double)(spread * (weights ? weights[j] : 1)) * (double)z[j];
    }
    exponentials(logits, rows * width);
    float each = 1 / (float)total;
    for (size_t row = 0; row < rows; row++) {
        size_t own = (size_t)targets[row];
        float *z = logits + row * width;
        float sum = sum_row(z, width), direct = (1 - smoothing) * (weights ? weights[own] : 1), mass = direct + spread * all;
        loss += (double)mass * (double)logf(sum);
        for (size_t j = 0; j < width; j++) z[j] = (z[j] / sum * mass - spread * (weights ? weights[j] : 1)) * each;
        z[own] -= direct * each;
    }
    return loss * (double)rows / total;
}

void cohort_clip(float *g, size_t count, float most) {
    double squares = 0;
    for (size_t i = 0; i < count; i++) squares += (double)g[i] * g[i];
    float scale = most / ((float)sqrt(squares) + 1e-6f);
    if (!(scale < 1)) return;
    for (size_t i = 0; i < count; i++) g[i] *= scale;
}

CLONES void cohort_pull(float *restrict w, const float *restrict anchor, size_t count, float share) {
    for (size_t i = 0; i < count; i++) w[i] -= share * (w[i] - anchor[i]);
}

CLONES void cohort_shift(float *restrict w, const float *restrict d, size_t count, float share) {
    for (size_t i = 0; i < count; i++) w[i] -= share * d[i];
}

double cohort_squared_error(float *outputs, const float *targets, size_t rows, enum cohort_number_loss gradient, double *sums) {
    double loss = 0;
    float scale = (gradient == COHORT_MSE ? 2 : 1) / (float)rows;
    for (size_t i = 0; i < rows; i++) {
        float error = outputs[i] - targets[i];
        loss += (double)error * error;
        sums[0] += targets[i];
        sums[1] += (double)targets[i] * targets[i];
        if (gradient == COHORT_L1) error = error > 0 ? 1 : error < 0 ? -1 : error;
        // A number that is none stays one.
        if (gradient == COHORT_HUBER) error = error > 1 ? 1 : error < -1 ? -1 : error;
        if (gradient) outputs[i] = error * scale;
    }
    return loss;
}

CLONES void cohort_dropout(float *restrict x, const uint8_t *restrict mask, size_t count, float scale) {
    for (size_t i = 0; i < count; i++) x[i] = mask[i] ? x[i] * scale : 0;
}

CLONES void cohort_sgd(
    float *restrict w, float *restrict g, float *restrict velocity, size_t count, float lr, float momentum, int nesterov, float decay,
    int first) {
    float kept = first ? 0 : momentum;
    EACH_VECTOR(count, {
        vector x, step, v;
        get(&x, w + i, some);
        get(&step, g + i, some);
        step += decay * x;
        if (momentum != 0) {
            get(&v, velocity + i, some);
            v = kept * v + step;
            put(velocity + i, &v, some);
            step = nesterov ? step + momentum * v : v;
        }
        x -= lr * step;
        put(w + i, &x, some);
    });
}

CLONES void cohort_adam(
    float *restrict w, const float *restrict g, float *restrict m, float *restrict v, size_t count, float lr, float beta1, float beta2,
    float epsilon, float decay, int decoupled, float correction1, float correction2) {
    float step = lr / correction1, root = 1 / sqrtf(correction2);
    float shrink = decoupled ? 1 - lr * decay : 1, coupled = decoupled ? 0 : decay;
    float rest1 = 1 - beta1, rest2 = 1 - beta2;
    EACH_VECTOR(count, {
        vector x, d, mean, square;
        get(&x, w + i, some);
        get(&d, g + i, some);
        get(&mean, m + i, some);
        get(&square, v + i, some);
        d += coupled * x;
        mean = beta1 * mean + rest1 * d;
        square = beta2 * square + rest2 * (d * d);
        x = x * shrink - step * mean / (__builtin_elementwise_sqrt(square) * root + epsilon);
        put(m + i, &mean, some);
        put(v + i, &square, some);
        put(w + i, &x, some);
    });
}

struct adam {
    float *w;
    const float *g;
    float *m, *v;
    size_t count;
    float lr, beta1, beta2, epsilon, decay;
    int decoupled;
    float correction1, correction2;
};

enum { ADAM_PIECE = 1 << 14 };

static void adam_piece(void *context, size_t piece) {
    const struct adam *all = context;
    size_t first = piece * ADAM_PIECE, left = all->count - first;
    cohort_adam(
        all->w + first, all->g + first, all->m + first, all->v + first, left < ADAM_PIECE ? left : ADAM_PIECE, all->lr, all->beta1,
        all->beta2, all->epsilon, all->decay, all->decoupled, all->correction1, all->correction2);
}

void cohort_adam_shared(
    struct cohort_threads *threads, float *w, const float *g, float *m, float *v, size_t count, float lr, float beta1, float beta2,
    float epsilon, float decay, int decoupled, float correction1, float correction2) {
    struct adam all = {w, g, m, v, count, lr, beta1, beta2, epsilon, decay, decoupled, correction1, correction2};
    // In turns of what a ticket can count.
    for (size_t pieces = (count + ADAM_PIECE - 1) / ADAM_PIECE; pieces > 0;) {
        size_t turn = pieces < 32768 ? pieces : 32768;
        cohort_threads_run(threads, turn, adam_piece, &all);
        pieces -= turn;
        size_t done = turn * ADAM_PIECE < all.count ? turn * ADAM_PIECE : all.count;
        all.w += done, all.g += done, all.m += done, all.v += done, all.count -= done;
    }
}
