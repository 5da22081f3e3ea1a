#include "net.hpp"

#include "fault.hpp"
#include "recording.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/TensorIndexing.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/version.h>

#include <algorithm>
#include <cmath>

namespace cohort {

namespace {

/// Rows that are evaluated or predicted at once.
constexpr int64_t evaluation_rows = 1024;

at::Tensor rows_on_host(const uint32_t *rows, uint64_t count) {
    // Row numbers are below 2³¹: Table sees to that.
    return at::from_blob(const_cast<uint32_t *>(rows), {static_cast<int64_t>(count)}, at::TensorOptions().dtype(at::kInt));
}

void check_rows(const uint32_t *rows, uint64_t count, int64_t limit) {
    for (uint64_t i = 0; i < count; ++i) {
        if (rows[i] >= limit) throw Fault(COHORT_TORCH_INVALID, "row " + std::to_string(rows[i]) + " was asked for of a table of " + std::to_string(limit));
    }
}

}  // namespace

/// Copies batch after batch from where the table is. From a host to a GPU they go through two buffers that its driver can read by itself,
/// so that the next one is collected while the last one is sent.
struct Net::Reader {
    const Table &table;
    at::Device device;
    at::Tensor order;

    struct Staging {
        at::Tensor features, targets;
        c10::Event sent{c10::DeviceType::CUDA};
        bool is_used = false;
    };
    std::vector<std::unique_ptr<Staging>> staging;
    size_t turn = 0;

    Reader(const Table &table, at::Device device, const uint32_t *rows, uint64_t count) : table(table), device(device), order(rows_on_host(rows, count)) {
        check_rows(rows, count, table.rows());
        // A pass's row numbers in one copy.
        if (table.is_resident && !device.is_cpu()) order = order.to(device);
    }

    void read(Batch &batch, int64_t start) {
        auto rows = order.narrow(0, start, batch.rows);
        if (table.is_resident) {
            at::index_select_out(batch.gathered, table.features, 0, rows);
            at::index_select_out(batch.targets, table.targets, 0, rows);
            return;
        }
        if (staging.empty()) {
            auto pinned = at::TensorOptions().dtype(at::kFloat).pinned_memory(true);
            for (int i = 0; i < 2; ++i) {
                staging.push_back(std::make_unique<Staging>());
                staging.back()->features = at::empty({batch.rows, table.width()}, pinned);
                staging.back()->targets = at::empty({batch.rows}, pinned);
            }
        }
        auto &buffer = *staging[turn++ % 2];
        if (buffer.is_used) buffer.sent.synchronize();
        auto features = buffer.features.narrow(0, 0, batch.rows), targets = buffer.targets.narrow(0, 0, batch.rows);
        at::index_select_out(features, table.features, 0, rows);
        at::index_select_out(targets, table.targets, 0, rows);
        batch.gathered.copy_(features, true);
        batch.targets.copy_(targets, true);
        c10::impl::VirtualGuardImpl guard(device.type());
        buffer.sent.record(guard.getStream(device));
        buffer.is_used = true;
    }
};

Net::Net(at::Device device, const cohort_torch_spec &spec, cohort_torch_precision precision)
    : device(device), floats(at::TensorOptions().dtype(at::kFloat).device(device)),
      computed(floats.dtype(precision == COHORT_TORCH_BFLOAT16 ? at::kBFloat16 : at::kFloat)), widths(spec.widths, spec.widths + spec.width_count),
      activation(spec.activation), task(spec.task), dropout(spec.dropout), precision(precision) {
    if (widths.size() < 2 || std::any_of(widths.begin(), widths.end(), [](int64_t width) { return width < 1; })) {
        throw Fault(COHORT_TORCH_INVALID, "a net has at least two widths, each at least 1");
    }
    if (!(dropout >= 0 && dropout < 1)) throw Fault(COHORT_TORCH_INVALID, "dropout is from 0 to below 1");
    if (task == COHORT_TORCH_REGRESSION && widths.back() != 1) throw Fault(COHORT_TORCH_INVALID, "a net for regression has one output");
    for (size_t l = 0; l + 1 < widths.size(); ++l) count += widths[l] * widths[l + 1] + widths[l + 1];
    weights = at::zeros({count}, floats);
    gradients = at::zeros({count}, floats);
    first = at::zeros({count}, floats);
    second = at::zeros({count}, floats);
    computed_weights = is_rounded() ? at::zeros({count}, computed) : weights;
    computed_gradients = is_rounded() ? at::zeros({count}, computed) : gradients;
    int64_t offset = 0;
    for (size_t l = 0; l + 1 < widths.size(); ++l) {
        int64_t inputs = widths[l], outputs = widths[l + 1];
        Layer layer;
        layer.weight = computed_weights.narrow(0, offset, inputs * outputs).view({outputs, inputs});
        layer.transposed = layer.weight.t();
        layer.weight_gradient = computed_gradients.narrow(0, offset, inputs * outputs).view({outputs, inputs});
        offset += inputs * outputs;
        layer.bias = computed_weights.narrow(0, offset, outputs);
        layer.bias_gradient = computed_gradients.narrow(0, offset, outputs);
        offset += outputs;
        layers.push_back(layer);
    }
    learning_rate = at::zeros({}, floats);
    minus_learning_rate = at::zeros({}, floats);
    adam_step = at::zeros({}, floats);
    sums = at::zeros({4}, floats.dtype(at::kDouble));
    generator = device.is_cpu() ? at::detail::createCPUGenerator(0) : at::globalContext().defaultGenerator(device);
}

Net::~Net() = default;

// MARK: Streams

void Net::read(cohort_torch_stream stream, float *values) const {
    const auto &source = stream == COHORT_TORCH_WEIGHTS ? weights : stream == COHORT_TORCH_FIRST_MOMENT ? first : second;
    at::from_blob(values, {count}, at::TensorOptions().dtype(at::kFloat)).copy_(source);
}

void Net::set(at::Tensor &target, const float *values) {
    if (values) target.copy_(at::from_blob(const_cast<float *>(values), {count}, at::TensorOptions().dtype(at::kFloat)));
    else target.zero_();
}

void Net::load(const float *values) {
    set(weights, values);
    forget();
    is_seeded = false;
}

void Net::restore(const cohort_torch_options &options, const float *first_values, const float *second_values, uint64_t steps) {
    take(options);
    set(first, first_values);
    set(second, second_values);
    set_steps(steps);
}

void Net::forget() {
    first.zero_();
    second.zero_();
    set_steps(0);
}

void Net::set_steps(uint64_t steps) {
    step_count = steps;
    adam_step.fill_(static_cast<double>(steps));
}

// MARK: Passes

void Net::check(const Table &table) const {
    if (table.width() != widths.front()) {
        throw Fault(
            COHORT_TORCH_INVALID, "the table has " + std::to_string(table.width()) + " features; this net takes " + std::to_string(widths.front()));
    }
    if (table.device != device) throw Fault(COHORT_TORCH_INVALID, "the table was made for " + table.device.str() + ", the net for " + device.str());
}

void Net::take(const cohort_torch_options &options) {
    if (options.batch_size < 1 || options.batch_size > INT32_MAX) throw Fault(COHORT_TORCH_INVALID, "batch_size is " + std::to_string(options.batch_size));
    Optimizer asked{
        options.optimizer, options.momentum, options.weight_decay, options.beta1, options.beta2, options.epsilon, options.nesterov != 0};
    Loss loss{{}, options.label_smoothing, options.gradient_clip};
    if (options.class_weights) {
        if (task != COHORT_TORCH_CLASSIFICATION) throw Fault(COHORT_TORCH_INVALID, "class weights are for a classification");
        loss.class_weights.assign(options.class_weights, options.class_weights + widths.back());
        for (double weight : loss.class_weights) {
            if (!(weight > 0 && std::isfinite(weight))) throw Fault(COHORT_TORCH_INVALID, "each class weight is above 0");
        }
    }
    if (!(asked == optimizer)) {
        optimizer = asked;
        forget();
        recording.reset();
    }
    if (!(loss == loss_options)) {
        class_weights =
            loss.class_weights.empty() ? at::Tensor() : at::tensor(loss.class_weights, at::kDouble).to(at::kFloat).to(device);
        loss_options = loss;
        recording.reset();
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

cohort_torch_counts Net::train(
    const Table &table, const uint32_t *rows, uint64_t row_count, const cohort_torch_options &options, const GoesOn &goes_on) {
    check(table);
    take(options);
    sums.zero_();
    uint64_t size = reduced > 0 ? std::min(reduced, options.batch_size) : options.batch_size;
    size = std::max<uint64_t>(1, std::min(size, row_count));
    try {
        reserve(static_cast<int64_t>(size));
    } catch (const c10::OutOfMemoryError &) {
        if (size < 2 || reduced > 0) throw;
        size /= 2;
        reserve(static_cast<int64_t>(size));
        reduced = size;
    }
    Reader reader(table, device, rows, row_count);
    // Small nets on a GPU wait for launches: whole batches are recorded once, and replayed.
    bool is_recorded = Recording::can_be(device) && table.is_resident;
    uint64_t start = 0;
    if (is_recorded && row_count >= size) {
        if (!recording || !recording->fits(table, static_cast<int64_t>(size))) recording = std::make_unique<Recording>(device, table, static_cast<int64_t>(size));
        auto &whole = batch(static_cast<int64_t>(size));
        Recording::Pass pass(*recording, reader.order);
        while (start + size <= row_count && goes_on()) {
            recording->step([&](const at::Tensor &next) {
                at::index_select_out(whole.gathered, table.features, 0, next);
                at::index_select_out(whole.targets, table.targets, 0, next);
                step(whole);
            });
            start += size;
            ++step_count;
        }
        if (start + size <= row_count) return counts(start);
    }
    while (start < row_count && goes_on()) {
        auto &some = batch(static_cast<int64_t>(std::min(size, row_count - start)));
        reader.read(some, static_cast<int64_t>(start));
        step(some);
        start += static_cast<uint64_t>(some.rows);
        ++step_count;
    }
    return counts(start);
}

cohort_torch_counts Net::evaluate(const Table &table, const uint32_t *rows, uint64_t row_count, const GoesOn &goes_on) {
    check(table);
    sums.zero_();
    if (row_count == 0) return counts(0);
    reserve(std::min<int64_t>(evaluation_rows, static_cast<int64_t>(row_count)));
    Reader reader(table, device, rows, row_count);
    round_weights();
    uint64_t start = 0;
    while (start < row_count && goes_on()) {
        auto &some = batch(std::min<int64_t>(evaluation_rows, static_cast<int64_t>(row_count - start)));
        reader.read(some, static_cast<int64_t>(start));
        forward(some, false);
        if (task == COHORT_TORCH_CLASSIFICATION) cross_entropy(some, false);
        else squared_error(some, false);
        start += static_cast<uint64_t>(some.rows);
    }
    return counts(start);
}

void Net::predict(const float *features, uint64_t row_count, float *outputs) {
    auto options = at::TensorOptions().dtype(at::kFloat);
    auto all = at::from_blob(const_cast<float *>(features), {static_cast<int64_t>(row_count), widths.front()}, options);
    auto results = at::from_blob(outputs, {static_cast<int64_t>(row_count), widths.back()}, options);
    if (row_count == 0) return;
    reserve(std::min<int64_t>(evaluation_rows, static_cast<int64_t>(row_count)));
    round_weights();
    for (int64_t start = 0; start < static_cast<int64_t>(row_count); start += evaluation_rows) {
        auto &some = batch(std::min<int64_t>(evaluation_rows, static_cast<int64_t>(row_count) - start));
        some.gathered.copy_(all.narrow(0, start, some.rows));
        forward(some, false);
        auto &logits = some.outputs;
        if (task == COHORT_TORCH_CLASSIFICATION) results.narrow(0, start, some.rows).copy_(at::softmax(logits, 1));
        else results.narrow(0, start, some.rows).copy_(logits);
    }
}

/// The one time that a pass waits for its device.
cohort_torch_counts Net::counts(uint64_t samples) const {
    auto host = sums.cpu();
    const double *values = host.const_data_ptr<double>();
    return {samples, values[0], static_cast<uint64_t>(std::llround(values[1])), values[2], values[3]};
}

// MARK: One step

void Net::step(Batch &batch) {
    round_weights();
    forward(batch, true);
    if (task == COHORT_TORCH_REGRESSION) squared_error(batch, true);
    else if (class_weights.defined() || loss_options.label_smoothing > 0) weighed_cross_entropy(batch);
    else cross_entropy(batch, true);
    backward(batch);
    update();
}

void Net::activate(at::Tensor &values) const {
    switch (activation) {
    case COHORT_TORCH_RELU: at::relu_(values); break;
    case COHORT_TORCH_TANH: at::tanh_(values); break;
    case COHORT_TORCH_SIGMOID: at::sigmoid_(values); break;
    }
}

void Net::round_weights() {
    if (is_rounded()) computed_weights.copy_(weights);
}

void Net::forward(Batch &batch, bool is_training) {
    if (is_rounded()) batch.features.copy_(batch.gathered);
    for (int64_t l = 0; l <= last(); ++l) {
        auto &layer = layers[l];
        auto &z = batch.activations[l];
        // Without dropout, and while evaluating, a layer takes what the one below gave.
        auto &x = l == 0 ? batch.features : dropout > 0 && is_training ? batch.inputs[l] : batch.activations[l - 1];
        at::addmm_out(z, layer.bias, x, layer.transposed);
        if (l == last()) break;
        activate(z);
        if (dropout > 0 && is_training) {
            batch.masks[l].bernoulli_(1 - dropout, generator).mul_(1 / (1 - dropout));
            at::mul_out(batch.inputs[l + 1], z, batch.masks[l]);
        }
    }
    if (is_rounded()) batch.outputs.copy_(batch.activations[last()]);
}

/// With a gradient, deltas.back() becomes dLoss/dZ of the mean loss.
void Net::cross_entropy(Batch &batch, bool wants_gradient) {
    auto &logits = batch.outputs;
    batch.classes.copy_(batch.targets.unsqueeze(1));
    sums.select(0, 1).add_(at::argmax(logits, 1, true).eq_(batch.classes).sum());
    at::_log_softmax_out(batch.log_probabilities, logits, 1, false);
    at::gather_out(batch.picked, batch.log_probabilities, 1, batch.classes);
    sums.select(0, 0).sub_(batch.picked.sum(at::kDouble));
    if (!wants_gradient) return;
    auto &delta = batch.output_deltas;
    at::exp_out(delta, batch.log_probabilities);
    delta.scatter_add_(1, batch.classes, batch.minus_ones).mul_(1.0 / static_cast<double>(batch.rows));
}

/// As PyTorch's CrossEntropyLoss(weight, label_smoothing) has it: each row's target is 1 − ε for its class and ε / classes for all, a class
/// counts by its weight, and the whole is divided by the weights of the rows' classes.
void Net::weighed_cross_entropy(Batch &batch) {
    auto &logits = batch.outputs;
    batch.classes.copy_(batch.targets.unsqueeze(1));
    sums.select(0, 1).add_(at::argmax(logits, 1, true).eq_(batch.classes).sum());
    at::_log_softmax_out(batch.log_probabilities, logits, 1, false);
    auto class_count = static_cast<double>(widths.back());
    auto smoothing = loss_options.label_smoothing;
    auto row_weights = class_weights.defined() ? class_weights.index_select(0, batch.classes.squeeze(1)).unsqueeze(1) : at::ones_like(batch.picked);
    auto total = row_weights.sum();
    auto desired = class_weights.defined() ? (class_weights * (smoothing / class_count)).expand_as(logits).clone()
                                           : at::full_like(logits, smoothing / class_count);
    desired.scatter_add_(1, batch.classes, row_weights * (1 - smoothing));
    auto loss = -(desired * batch.log_probabilities).sum(at::kDouble) / total;
    sums.select(0, 0).add_(loss * static_cast<double>(batch.rows));
    auto &delta = batch.output_deltas;
    at::exp_out(delta, batch.log_probabilities);
    delta.mul_(desired.sum(1, true)).sub_(desired).div_(total);
}

void Net::squared_error(Batch &batch, bool wants_gradient) {
    auto &outputs = batch.outputs;
    auto &delta = batch.output_deltas;
    auto targets = batch.targets.unsqueeze(1);
    at::sub_out(delta, outputs, targets);
    sums.select(0, 0).add_(delta.square().sum(at::kDouble));
    sums.select(0, 2).add_(targets.sum(at::kDouble));
    sums.select(0, 3).add_(targets.square().sum(at::kDouble));
    if (wants_gradient) delta.mul_(2.0 / static_cast<double>(batch.rows));
}

void Net::backward(Batch &batch) {
    if (is_rounded()) batch.deltas[last()].copy_(batch.output_deltas);
    for (int64_t l = last(); l >= 0; --l) {
        auto &layer = layers[l];
        auto &delta = batch.deltas[l];
        auto &x = l == 0 ? batch.features : dropout > 0 ? batch.inputs[l] : batch.activations[l - 1];
        at::mm_out(layer.weight_gradient, delta.t(), x);
        at::sum_out(layer.bias_gradient, delta, 0);
        if (l == 0) break;
        auto &below = batch.deltas[l - 1];
        auto &output = batch.activations[l - 1];
        at::mm_out(below, delta, layer.weight);
        if (dropout > 0) below.mul_(batch.masks[l - 1]);
        switch (activation) {
        case COHORT_TORCH_RELU: at::threshold_backward_out(below, below, output, 0); break;
        case COHORT_TORCH_TANH: at::tanh_backward_out(below, below, output); break;
        case COHORT_TORCH_SIGMOID: at::sigmoid_backward_out(below, below, output); break;
        }
    }
    if (is_rounded()) gradients.copy_(computed_gradients);
}

void Net::update() {
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
}

// MARK: Buffers

void Net::reserve(int64_t rows) {
    if (rows <= capacity) return;
    recording.reset();
    batches.clear();
    capacity = 0;
    activation_buffers.clear();
    dropped_buffers.clear();
    mask_buffers.clear();
    delta_buffers.clear();
    gather_buffer = at::empty({rows, widths.front()}, floats);
    feature_buffer = is_rounded() ? at::empty({rows, widths.front()}, computed) : gather_buffer;
    target_buffer = at::empty({rows}, floats);
    for (size_t l = 1; l < widths.size(); ++l) {
        activation_buffers.push_back(at::empty({rows, widths[l]}, computed));
        delta_buffers.push_back(at::empty({rows, widths[l]}, computed));
        if (dropout > 0 && l + 1 < widths.size()) {
            dropped_buffers.push_back(at::empty({rows, widths[l]}, computed));
            mask_buffers.push_back(at::empty({rows, widths[l]}, computed));
        }
    }
    output_buffer = is_rounded() ? at::empty({rows, widths.back()}, floats) : activation_buffers.back();
    output_delta_buffer = is_rounded() ? at::empty({rows, widths.back()}, floats) : delta_buffers.back();
    if (task == COHORT_TORCH_CLASSIFICATION) {
        class_buffer = at::empty({rows, 1}, floats.dtype(at::kLong));
        log_buffer = at::empty({rows, widths.back()}, floats);
        picked_buffer = at::empty({rows, 1}, floats);
        one_buffer = at::full({rows, 1}, -1.0, floats);
    }
    capacity = rows;
}

Net::Batch &Net::batch(int64_t rows) {
    if (auto known = batches.find(rows); known != batches.end()) return known->second;
    // A pass has whole batches and one rest; evaluations have theirs.
    if (batches.size() >= 8) {
        recording.reset();
        batches.clear();
    }
    Batch made;
    made.rows = rows;
    auto some = [rows](const at::Tensor &buffer) { return buffer.narrow(0, 0, rows); };
    made.gathered = some(gather_buffer);
    made.features = some(feature_buffer);
    made.outputs = some(output_buffer);
    made.output_deltas = some(output_delta_buffer);
    made.targets = some(target_buffer);
    for (size_t l = 0; l < layers.size(); ++l) {
        made.activations.push_back(some(activation_buffers[l]));
        made.deltas.push_back(some(delta_buffers[l]));
        made.inputs.push_back(dropout > 0 && l > 0 ? some(dropped_buffers[l - 1]) : at::Tensor());
        if (dropout > 0 && l + 1 < layers.size()) made.masks.push_back(some(mask_buffers[l]));
    }
    if (task == COHORT_TORCH_CLASSIFICATION) {
        made.classes = some(class_buffer);
        made.log_probabilities = some(log_buffer);
        made.picked = some(picked_buffer);
        made.minus_ones = some(one_buffer);
    }
    return batches.emplace(rows, std::move(made)).first->second;
}

}  // namespace cohort
