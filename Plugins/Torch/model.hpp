// What every trainable model has: its parameters in one vector, the optimizer over it, and what a pass is asked for.
#pragma once

#include "fault.hpp"
#include "options.hpp"
#include "table.hpp"

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace cohort {

class Model {
public:
    virtual ~Model() = default;

    const at::Device device;

    /// Of the vector, in its order.
    struct Named {
        std::string name;
        std::vector<int64_t> shape;
    };
    std::vector<Named> tensors;

    int64_t parameter_count() const { return count; }
    /// Of `tensors`, from the first on; those behind them are a module's own statistics.
    size_t trained_tensors() const {
        int64_t left = trained;
        size_t number = 0;
        while (number < tensors.size() && left > 0) {
            int64_t size = 1;
            for (auto length : tensors[number].shape) size *= length;
            left -= size;
            ++number;
        }
        return number;
    }
    void read(cohort_torch_stream stream, float *values) const;
    void load(const float *values, bool keeps_optimizer);
    uint64_t steps() const { return step_count; }
    /// NULL: zeros.
    void restore(const cohort_torch_options &options, const float *first_values, const float *second_values, uint64_t steps);
    /// What each step subtracts, times the learning rate; NULL: nothing.
    void correct(const float *values);

    using GoesOn = std::function<bool()>;
    virtual cohort_torch_counts train(
        const Table &table, const uint32_t *rows, uint64_t count, const cohort_torch_options &options, const GoesOn &goes_on) = 0;
    virtual cohort_torch_counts evaluate(const Table &table, const uint32_t *rows, uint64_t count, const GoesOn &goes_on) = 0;
    virtual void predict(const float *features, uint64_t rows, float *outputs) = 0;

    /// Serialized in the format of the module.
    virtual std::string saved() { throw Fault(COHORT_TORCH_INVALID, "this model is no module"); }

    uint64_t reduced_batch() const { return reduced; }

protected:
    Model(at::Device device, cohort_torch_task task, int64_t inputs, int64_t outputs, cohort_torch_precision precision);

    const at::TensorOptions floats;
    const cohort_torch_task task;
    const int64_t input_count, output_count;
    const cohort_torch_precision precision;

    /// `trained` of `count` are the optimizer's; the others, at the end, are a module's own statistics.
    int64_t count = 0, trained = 0;
    at::Tensor weights, gradients, first, second;
    Optimizer optimizer;
    Loss loss_options;
    at::Tensor class_weights;
    at::Generator generator;
    /// Loss, rows right, sum of targets, sum of their squares: doubles on the device.
    at::Tensor sums;
    uint64_t step_count = 0;
    uint64_t reduced = 0;

    /// Makes the vectors of so many.
    void make_streams(int64_t all, int64_t of_optimizer);
    void check(const Table &table) const;
    void take(const cohort_torch_options &options);
    /// The vectors are what they were, what is computed from them is not.
    virtual void options_changed() {}
    /// Rows a step, for so many rows.
    uint64_t step_rows(const cohort_torch_options &options, uint64_t rows) const;
    void update();
    cohort_torch_counts counts(uint64_t samples) const;

private:
    /// On the device, so that a recorded step takes the present one: the learning rate, its negative, and Adam's step.
    at::Tensor learning_rate, minus_learning_rate, adam_step;
    double present_rate = -1;
    /// The weights that were loaded, and room to subtract in; undefined until a pass is pulled toward them.
    at::Tensor anchor, difference;
    bool is_anchored = false;
    /// Undefined until there is one.
    at::Tensor correction;
    bool is_corrected = false;
    uint64_t dropout_seed = 0;
    bool is_seeded = false;

    void forget();
    void set_steps(uint64_t steps);
    void set(at::Tensor &target, const float *values);
};

}  // namespace cohort
