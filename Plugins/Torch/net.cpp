#include "net.hpp"

#include "reader.hpp"
#include "recording.hpp"

#include <ATen/core/LegacyTypeDispatch.h>

#include <algorithm>

namespace cohort {

namespace {

/// Rows that are evaluated or predicted at once.
constexpr int64_t evaluation_rows = 1024;

/// Inputs and outputs.
std::pair<int64_t, int64_t> ends(const cohort_torch_spec &spec) {
    bool is_whole = spec.width_count >= 2 && std::all_of(spec.widths, spec.widths + spec.width_count, [](uint32_t width) { return width >= 1; });
    if (!is_whole) throw Fault(COHORT_TORCH_INVALID, "a net has at least two widths, each at least 1");
    return {spec.widths[0], spec.widths[spec.width_count - 1]};
}

}  // namespace

Net::Net(at::Device device, const cohort_torch_spec &spec, cohort_torch_precision precision)
    : Model(device, spec.task, ends(spec).first, ends(spec).second, precision),
      computed(floats.dtype(precision == COHORT_TORCH_BFLOAT16 ? at::kBFloat16 : at::kFloat)), widths(spec.widths, spec.widths + spec.width_count),
      activation(spec.activation), dropout(spec.dropout) {
    if (!(dropout >= 0 && dropout < 1)) throw Fault(COHORT_TORCH_INVALID, "dropout is from 0 to below 1");
    // Named as PyTorch's nn.Sequential(Linear, Activation, (Dropout,) …, Linear) names them.
    int64_t all = 0;
    for (size_t l = 0; l + 1 < widths.size(); ++l) {
        auto place = std::to_string(l * (dropout > 0 ? 3 : 2));
        tensors.push_back({place + ".weight", {widths[l + 1], widths[l]}});
        tensors.push_back({place + ".bias", {widths[l + 1]}});
        all += widths[l] * widths[l + 1] + widths[l + 1];
    }
    make_streams(all, all);
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
}

Net::~Net() = default;

void Net::options_changed() { recording.reset(); }

// MARK: Passes

cohort_torch_counts Net::train(
    const Table &table, const uint32_t *rows, uint64_t row_count, const cohort_torch_options &options, const GoesOn &goes_on) {
    at::AutoDispatchBelowADInplaceOrView below;
    check(table);
    take(options);
    sums.zero_();
    uint64_t size = step_rows(options, row_count);
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
        reader.read(some.gathered, some.targets, static_cast<int64_t>(start));
        step(some);
        start += static_cast<uint64_t>(some.rows);
        ++step_count;
    }
    return counts(start);
}

cohort_torch_counts Net::evaluate(const Table &table, const uint32_t *rows, uint64_t row_count, const GoesOn &goes_on) {
    at::AutoDispatchBelowADInplaceOrView below;
    check(table);
    sums.zero_();
    if (row_count == 0) return counts(0);
    reserve(std::min<int64_t>(evaluation_rows, static_cast<int64_t>(row_count)));
    Reader reader(table, device, rows, row_count);
    round_weights();
    uint64_t start = 0;
    while (start < row_count && goes_on()) {
        auto &some = batch(std::min<int64_t>(evaluation_rows, static_cast<int64_t>(row_count - start)));
        reader.read(some.gathered, some.targets, static_cast<int64_t>(start));
        forward(some, false);
        if (task == COHORT_TORCH_CLASSIFICATION) cross_entropy(some, false);
        else squared_error(some, false);
        start += static_cast<uint64_t>(some.rows);
    }
    return counts(start);
}

void Net::predict(const float *features, uint64_t row_count, float *outputs) {
    at::AutoDispatchBelowADInplaceOrView below;
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
    auto class_count = static_cast<double>(output_count);
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
    if (!wants_gradient) return;
    auto share = 1.0 / static_cast<double>(batch.rows);
    switch (loss_options.number_loss) {
    case COHORT_TORCH_MSE: delta.mul_(2 * share); break;
    case COHORT_TORCH_L1: delta.sign_().mul_(share); break;
    case COHORT_TORCH_HUBER: delta.clamp_(-1, 1).mul_(share); break;
    }
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
