#include "model.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

#include <algorithm>
#include <cmath>

namespace cohort {

Model::Model(at::Device device, cohort_torch_task task, int64_t inputs, int64_t outputs, cohort_torch_precision precision)
    : device(device), floats(at::TensorOptions().dtype(at::kFloat).device(device)), task(task), input_count(inputs), output_count(outputs),
      precision(precision) {
    if (task == COHORT_TORCH_REGRESSION && outputs != 1) throw Fault(COHORT_TORCH_INVALID, "a net for regression has one output");
    learning_rate = at::zeros({}, floats);
    minus_learning_rate = at::zeros({}, floats);
    adam_step = at::zeros({}, floats);
    sums = at::zeros({4}, floats.dtype(at::kDouble));
    generator = device.is_cpu() ? at::detail::createCPUGenerator(0) : at::globalContext().defaultGenerator(device);
}

void Model::make_streams(int64_t all, int64_t of_optimizer) {
    count = all;
    trained = of_optimizer;
    weights = at::zeros({count}, floats);
    gradients = at::zeros({count}, floats);
    first = at::zeros({count}, floats);
    second = at::zeros({count}, floats);
}

// MARK: Streams

void Model::read(cohort_torch_stream stream, float *values) const {
    const auto &source = stream == COHORT_TORCH_WEIGHTS ? weights : stream == COHORT_TORCH_FIRST_MOMENT ? first : second;
    at::from_blob(values, {count}, at::TensorOptions().dtype(at::kFloat)).copy_(source);
}

void Model::set(at::Tensor &target, const float *values) {
    if (values) target.copy_(at::from_blob(const_cast<float *>(values), {count}, at::TensorOptions().dtype(at::kFloat)));
    else target.zero_();
}

void Model::load(const float *values, bool keeps_optimizer) {
    set(weights, values);
    if (!keeps_optimizer) forget();
    is_seeded = false;
    is_anchored = false;
}

void Model::restore(const cohort_torch_options &options, const float *first_values, const float *second_values, uint64_t steps) {
    take(options);
    set(first, first_values);
    set(second, second_values);
    set_steps(steps);
}

void Model::correct(const float *values) {
    // The same memory each time: a recorded step reads it.
    if (values && !correction.defined()) correction = at::empty({count}, floats);
    if (values) set(correction, values);
    if (is_corrected == (values != nullptr)) return;
    is_corrected = values != nullptr;
    options_changed();
}

void Model::forget() {
    first.zero_();
    second.zero_();
    set_steps(0);
}

void Model::set_steps(uint64_t steps) {
    step_count = steps;
    adam_step.fill_(static_cast<double>(steps));
}

void Model::check(const Table &table) const {
    if (table.width() != input_count) {
        throw Fault(
            COHORT_TORCH_INVALID, "the table has " + std::to_string(table.width()) + " features; this net takes " + std::to_string(input_count));
    }
    if (table.device != device) throw Fault(COHORT_TORCH_INVALID, "the table was made for " + table.device.str() + ", the net for " + device.str());
}

void Model::take(const cohort_torch_options &options) {
    if (options.batch_size < 1 || options.batch_size > INT32_MAX) throw Fault(COHORT_TORCH_INVALID, "batch_size is " + std::to_string(options.batch_size));
    Optimizer asked{
        options.optimizer, options.momentum, options.weight_decay, options.beta1, options.beta2, options.epsilon, options.nesterov != 0};
    Loss loss{{}, options.label_smoothing, options.gradient_clip, options.proximal_mu, options.number_loss};
    if (options.class_weights) {
        if (task != COHORT_TORCH_CLASSIFICATION) throw Fault(COHORT_TORCH_INVALID, "class weights are for a classification");
        loss.class_weights.assign(options.class_weights, options.class_weights + output_count);
        for (double weight : loss.class_weights) {
            if (!(weight > 0 && std::isfinite(weight))) throw Fault(COHORT_TORCH_INVALID, "each class weight is above 0");
        }
    }
    if (!(asked == optimizer)) {
        optimizer = asked;
        forget();
        options_changed();
    }
    if (!(loss == loss_options)) {
        class_weights =
            loss.class_weights.empty() ? at::Tensor() : at::tensor(loss.class_weights, at::kDouble).to(at::kFloat).to(device);
        loss_options = loss;
        options_changed();
    }
    if (loss_options.proximal_mu > 0 && !is_anchored) {
        // The same memory each time: a recorded step reads it.
        if (!anchor.defined()) {
            anchor = at::empty({count}, floats);
            difference = at::empty({trained}, floats);
        }
        anchor.copy_(weights);
        is_anchored = true;
    }
    if (present_rate != options.learning_rate) {
        present_rate = options.learning_rate;
        learning_rate.fill_(present_rate);
        minus_learning_rate.fill_(-present_rate);
    }
    if (!is_seeded || dropout_seed != options.dropout_seed) {
        is_seeded = true;
        dropout_seed = options.dropout_seed;
        std::lock_guard<std::mutex> lock(generator.mutex());
        generator.set_current_seed(dropout_seed);
    }
    // Of the whole process: nets of one process agree.
    if (!device.is_cpu()) at::globalContext().setAllowTF32CuBLAS(precision == COHORT_TORCH_TF32);
}

uint64_t Model::step_rows(const cohort_torch_options &options, uint64_t rows) const {
    auto size = reduced > 0 ? std::min(reduced, options.batch_size) : options.batch_size;
    return std::max<uint64_t>(1, std::min(size, rows));
}

/// The one time that a pass waits for its device.
cohort_torch_counts Model::counts(uint64_t samples) const {
    auto host = sums.cpu();
    const double *values = host.const_data_ptr<double>();
    return {samples, values[0], static_cast<uint64_t>(std::llround(values[1])), values[2], values[3]};
}

void Model::update() {
    // A module's statistics, at the end, are not the optimizer's.
    auto part = [this](at::Tensor &vector) { return trained == count ? vector : vector.narrow(0, 0, trained); };
    auto weights = part(this->weights), gradients = part(this->gradients), first = part(this->first), second = part(this->second);
    if (loss_options.gradient_clip > 0) {
        // As clip_grad_norm_ has it, without waiting for the norm.
        gradients.mul_((loss_options.gradient_clip / (gradients.norm() + 1e-6)).clamp_max_(1.0));
    }
    switch (optimizer.name) {
    case COHORT_TORCH_SGD: {
        if (optimizer.weight_decay != 0) gradients.add_(weights, optimizer.weight_decay);
        if (optimizer.momentum == 0) {
            weights.addcmul_(gradients, minus_learning_rate);
            break;
        }
        // From a velocity of 0, PyTorch's first step, which takes the gradient itself, is the same.
        first.mul_(optimizer.momentum).add_(gradients);
        if (optimizer.nesterov) weights.addcmul_(gradients.add_(first, optimizer.momentum), minus_learning_rate);
        else weights.addcmul_(first, minus_learning_rate);
        break;
    }
    case COHORT_TORCH_ADAM:
    case COHORT_TORCH_ADAMW:
        adam_step.add_(1);
        if (optimizer.name == COHORT_TORCH_ADAM) {
            at::_fused_adam_(
                {weights}, {gradients}, {first}, {second}, {}, {adam_step}, learning_rate, optimizer.beta1, optimizer.beta2, optimizer.weight_decay,
                optimizer.epsilon, false, false);
        } else {
            at::_fused_adamw_(
                {weights}, {gradients}, {first}, {second}, {}, {adam_step}, learning_rate, optimizer.beta1, optimizer.beta2, optimizer.weight_decay,
                optimizer.epsilon, false, false);
        }
        break;
    }
    if (is_corrected) weights.addcmul_(part(correction), minus_learning_rate);
    if (loss_options.proximal_mu > 0) {
        at::sub_out(difference, weights, anchor.narrow(0, 0, trained));
        weights.addcmul_(difference, minus_learning_rate, loss_options.proximal_mu);
    }
}

}  // namespace cohort
