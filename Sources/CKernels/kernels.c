#include "CKernels.h"

#include <math.h>
#include <string.h>

void cohort_gather(const float *table, size_t width, const uint32_t *rows, size_t count, float *out) {
    for (size_t i = 0; i < count; i++) memcpy(out + i * width, table + (size_t)rows[i] * width, width * sizeof(float));
}

void cohort_bias(float *restrict z, const float *restrict bias, size_t rows, size_t width) {
    for (size_t i = 0; i < rows; i++, z += width)
        for (size_t j = 0; j < width; j++) z[j] += bias[j];
}

void cohort_bias_activate(float *restrict z, const float *restrict bias, size_t rows, size_t width, int activation) {
    for (size_t i = 0; i < rows; i++, z += width) switch (activation) {
            case COHORT_RELU:
                // Written so that a NaN stays one: a diverged model must show.
                for (size_t j = 0; j < width; j++) {
                    float x = z[j] + bias[j];
                    z[j] = x < 0 ? 0 : x;
                }
                break;
            case COHORT_TANH:
                for (size_t j = 0; j < width; j++) z[j] = tanhf(z[j] + bias[j]);
                break;
            default:
                for (size_t j = 0; j < width; j++) z[j] = 1 / (1 + expf(-(z[j] + bias[j])));
        }
}

void cohort_activation_gradient(float *restrict gradient, const float *restrict output, size_t count, int activation) {
    switch (activation) {
        case COHORT_RELU:
            for (size_t i = 0; i < count; i++) gradient[i] = output[i] > 0 ? gradient[i] : 0;
            break;
        case COHORT_TANH:
            for (size_t i = 0; i < count; i++) gradient[i] *= 1 - output[i] * output[i];
            break;
        default:
            for (size_t i = 0; i < count; i++) gradient[i] *= output[i] * (1 - output[i]);
    }
}

void cohort_column_sums(const float *restrict gradient, size_t rows, size_t width, float *restrict out) {
    memset(out, 0, width * sizeof(float));
    for (size_t i = 0; i < rows; i++, gradient += width)
        for (size_t j = 0; j < width; j++) out[j] += gradient[j];
}

void cohort_softmax(float *logits, size_t rows, size_t width) {
    for (size_t i = 0; i < rows; i++, logits += width) {
        float most = logits[0], sum = 0;
        for (size_t j = 1; j < width; j++) most = logits[j] > most ? logits[j] : most;
        for (size_t j = 0; j < width; j++) sum += logits[j] = expf(logits[j] - most);
        for (size_t j = 0; j < width; j++) logits[j] /= sum;
    }
}

double cohort_cross_entropy(float *logits, const float *targets, size_t rows, size_t width, int gradient, int64_t *correct) {
    double loss = 0;
    float scale = 1 / (float)rows;
    for (size_t i = 0; i < rows; i++, logits += width) {
        size_t class = (size_t)targets[i], best = 0;
        for (size_t j = 1; j < width; j++) best = logits[j] > logits[best] ? j : best;
        float most = logits[best], own = logits[class], sum = 0;
        for (size_t j = 0; j < width; j++) sum += expf(logits[j] - most);
        *correct += best == class;
        loss += (double)(logf(sum) + most - own);
        if (!gradient) continue;
        for (size_t j = 0; j < width; j++) logits[j] = expf(logits[j] - most) / sum * scale;
        logits[class] -= scale;
    }
    return loss;
}

double cohort_squared_error(float *outputs, const float *targets, size_t rows, int gradient, double *sums) {
    double loss = 0;
    float scale = 2 / (float)rows;
    for (size_t i = 0; i < rows; i++) {
        float error = outputs[i] - targets[i];
        loss += (double)error * error;
        sums[0] += targets[i];
        sums[1] += (double)targets[i] * targets[i];
        if (gradient) outputs[i] = error * scale;
    }
    return loss;
}

void cohort_dropout(float *restrict x, const uint8_t *restrict mask, size_t count, float scale) {
    for (size_t i = 0; i < count; i++) x[i] = mask[i] ? x[i] * scale : 0;
}

void cohort_sgd(
    float *restrict w, float *restrict g, float *restrict velocity, size_t count, float lr, float momentum, int nesterov, float decay,
    int first) {
    for (size_t i = 0; i < count; i++) {
        float step = g[i] + decay * w[i];
        if (momentum != 0) {
            velocity[i] = first ? step : momentum * velocity[i] + step;
            step = nesterov ? step + momentum * velocity[i] : velocity[i];
        }
        w[i] -= lr * step;
    }
}

void cohort_adam(
    float *restrict w, const float *restrict g, float *restrict m, float *restrict v, size_t count, float lr, float beta1, float beta2,
    float epsilon, float decay, int decoupled, float correction1, float correction2) {
    float step = lr / correction1, root = 1 / sqrtf(correction2);
    float shrink = decoupled ? 1 - lr * decay : 1, coupled = decoupled ? 0 : decay;
    for (size_t i = 0; i < count; i++) {
        float x = w[i] * shrink, d = g[i] + coupled * w[i];
        m[i] = beta1 * m[i] + (1 - beta1) * d;
        v[i] = beta2 * v[i] + (1 - beta2) * d * d;
        w[i] = x - step * m[i] / (sqrtf(v[i]) * root + epsilon);
    }
}
