// SimpleDNN, its losses and its optimizers over ATen, without autograd: a step is one call of ATen a product, activation or sum, into buffers
// that stay.
#pragma once

#include "options.hpp"
#include "table.hpp"

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

namespace cohort {

class Recording;

class Net {
public:
    Net(at::Device device, const cohort_torch_spec &spec, cohort_torch_precision precision);
    ~Net();

    int64_t parameter_count() const { return count; }
    void read(cohort_torch_stream stream, float *values) const;
    void load(const float *values);
    uint64_t steps() const { return step_count; }
    /// NULL: zeros.
    void restore(const cohort_torch_options &options, const float *first_values, const float *second_values, uint64_t steps);

    using GoesOn = std::function<bool()>;
    cohort_torch_counts train(const Table &table, const uint32_t *rows, uint64_t count, const cohort_torch_options &options, const GoesOn &goes_on);
    cohort_torch_counts evaluate(const Table &table, const uint32_t *rows, uint64_t count, const GoesOn &goes_on);
    void predict(const float *features, uint64_t rows, float *outputs);

    uint64_t reduced_batch() const { return reduced; }

private:
    struct Layer {
        /// Views of what is computed with: [out, in] and [out]; `transposed` is [in, out].
        at::Tensor weight, transposed, bias, weight_gradient, bias_gradient;
    };

    /// Views of the buffers for batches of one size.
    struct Batch {
        int64_t rows;
        /// `gathered` is what the table gives; `features` the same as it is computed with.
        at::Tensor gathered, features, targets, classes;
        /// activations[l]: the output of layer l (the last one's without activation); inputs[l]: what layer l takes.
        std::vector<at::Tensor> activations, inputs, masks, deltas;
        /// The last layer's outputs and their gradients as the loss takes them: in 32 bits.
        at::Tensor outputs, output_deltas;
        at::Tensor log_probabilities, picked, minus_ones;
    };

    /// Rows of a table, one batch after the other.
    struct Reader;

    at::Device device;
    at::TensorOptions floats;
    /// Of activations and their gradients.
    at::TensorOptions computed;
    std::vector<int64_t> widths;
    cohort_torch_activation activation;
    cohort_torch_task task;
    double dropout;
    cohort_torch_precision precision;

    int64_t count = 0;
    at::Tensor weights, gradients, first, second;
    /// Weights and gradients as they are computed with: the same memory, unless that is in fewer bits.
    at::Tensor computed_weights, computed_gradients;
    bool is_rounded() const { return precision == COHORT_TORCH_BFLOAT16; }
    std::vector<Layer> layers;
    Optimizer optimizer;
    Loss loss_options;
    at::Tensor class_weights;
    /// On the device, so that a recorded step takes the present one: the learning rate, its negative, and Adam's step.
    at::Tensor learning_rate, minus_learning_rate, adam_step;
    double present_rate = -1;
    uint64_t step_count = 0;
    at::Generator generator;
    uint64_t dropout_seed = 0;
    bool is_seeded = false;
    /// Loss, rows right, sum of targets, sum of their squares: doubles on the device.
    at::Tensor sums;

    int64_t capacity = 0;
    std::vector<at::Tensor> activation_buffers, dropped_buffers, mask_buffers, delta_buffers;
    at::Tensor gather_buffer, feature_buffer, output_buffer, output_delta_buffer, target_buffer, class_buffer, log_buffer, picked_buffer, one_buffer;
    std::map<int64_t, Batch> batches;
    uint64_t reduced = 0;
    std::unique_ptr<Recording> recording;

    int64_t last() const { return static_cast<int64_t>(layers.size()) - 1; }
    void check(const Table &table) const;
    void take(const cohort_torch_options &options);
    void forget();
    void set_steps(uint64_t steps);
    void set(at::Tensor &target, const float *values);
    void reserve(int64_t rows);
    Batch &batch(int64_t rows);

    void step(Batch &batch);
    void round_weights();
    void forward(Batch &batch, bool is_training);
    void activate(at::Tensor &values) const;
    void cross_entropy(Batch &batch, bool wants_gradient);
    void weighed_cross_entropy(Batch &batch);
    void squared_error(Batch &batch, bool wants_gradient);
    void backward(Batch &batch);
    void update();
    cohort_torch_counts counts(uint64_t samples) const;
};

}  // namespace cohort
