// SimpleDNN, its losses and its optimizers over ATen, without autograd: a step is one call of ATen a product, activation or sum, into buffers
// that stay.
#pragma once

#include "model.hpp"

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

namespace cohort {

class Recording;

class Net : public Model {
public:
    Net(at::Device device, const cohort_torch_spec &spec, cohort_torch_precision precision);
    ~Net() override;

    cohort_torch_counts train(
        const Table &table, const uint32_t *rows, uint64_t count, const cohort_torch_options &options, const GoesOn &goes_on) override;
    cohort_torch_counts evaluate(const Table &table, const uint32_t *rows, uint64_t count, const GoesOn &goes_on) override;
    void predict(const float *features, uint64_t rows, float *outputs) override;

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

    /// Of activations and their gradients.
    at::TensorOptions computed;
    std::vector<int64_t> widths;
    cohort_torch_activation activation;
    double dropout;

    /// Weights and gradients as they are computed with: the same memory, unless that is in fewer bits.
    at::Tensor computed_weights, computed_gradients;
    bool is_rounded() const { return precision == COHORT_TORCH_BFLOAT16; }
    std::vector<Layer> layers;

    int64_t capacity = 0;
    std::vector<at::Tensor> activation_buffers, dropped_buffers, mask_buffers, delta_buffers;
    at::Tensor gather_buffer, feature_buffer, output_buffer, output_delta_buffer, target_buffer, class_buffer, log_buffer, picked_buffer, one_buffer;
    std::map<int64_t, Batch> batches;
    std::unique_ptr<Recording> recording;

    int64_t last() const { return static_cast<int64_t>(layers.size()) - 1; }
    void options_changed() override;
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
};

}  // namespace cohort
