// Element-wise kernels of a training step. All arrays are row-major 32-bit floats; nothing here allocates, blocks or keeps state. The order
// of every sum is fixed, so the same input gives the same bits.
#pragma once

#include <stddef.h>
#include <stdint.h>

enum cohort_activation { COHORT_RELU = 0, COHORT_TANH = 1, COHORT_SIGMOID = 2 };

/// out[i, :] = table[rows[i], :], i < count.
void cohort_gather(const float *table, size_t width, const uint32_t *rows, size_t count, float *out);

/// z[i, j] = activation(z[i, j] + bias[j]).
void cohort_bias_activate(float *z, const float *bias, size_t rows, size_t width, int activation);

/// z[i, j] += bias[j].
void cohort_bias(float *z, const float *bias, size_t rows, size_t width);

/// gradient *= activation'(.), told from the activation's own output.
void cohort_activation_gradient(float *gradient, const float *output, size_t count, int activation);

/// out[j] = sum over i of gradient[i, j].
void cohort_column_sums(const float *gradient, size_t rows, size_t width, float *out);

/// Softmax over each row, in place.
void cohort_softmax(float *logits, size_t rows, size_t width);

/// Sum of cross-entropies of logits against class indices. *correct gets the number of rows whose largest logit is the class. With `gradient`,
/// logits become (softmax - onehot) / rows.
double cohort_cross_entropy(float *logits, const float *targets, size_t rows, size_t width, int gradient, int64_t *correct);

/// Sum of squared errors; with `gradient`, outputs become 2 (y - t) / rows. sums[0] += t, sums[1] += t².
double cohort_squared_error(float *outputs, const float *targets, size_t rows, int gradient, double *sums);

/// mask[i] != 0 keeps: x[i] = mask[i] ? x[i] * scale : 0.
void cohort_dropout(float *x, const uint8_t *mask, size_t count, float scale);

/// PyTorch's SGD: g += decay·w; velocity = first ? g : momentum·velocity + g; w -= lr·(nesterov ? g + momentum·velocity : velocity).
void cohort_sgd(float *w, float *g, float *velocity, size_t count, float lr, float momentum, int nesterov, float decay, int first);

/// PyTorch's Adam (decoupled = 0: g += decay·w) and AdamW (decoupled = 1: w -= lr·decay·w). corrections: 1 - beta^t.
void cohort_adam(
    float *w, const float *g, float *m, float *v, size_t count, float lr, float beta1, float beta2, float epsilon, float decay,
    int decoupled, float correction1, float correction2);
