#include "module.hpp"

#include "reader.hpp"

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/version.h>

#include <algorithm>
#include <set>
#include <sstream>

namespace cohort {

namespace {

constexpr uint64_t evaluation_rows = 1024;

/// What an error of a module's own code says is its last line; where in the code it was stands before it, and where in libtorch behind it.
std::string last_line(const std::string &whole) {
    auto text = whole.substr(0, whole.find("\nException raised from"));
    auto end = text.find_last_not_of(" \n");
    if (end == std::string::npos) return "no reason was given";
    auto begin = text.find_last_of('\n', end);
    return text.substr(begin == std::string::npos ? 0 : begin + 1, end - (begin == std::string::npos ? 0 : begin + 1) + 1);
}

std::string shown(at::IntArrayRef shape) {
    std::ostringstream text;
    text << shape;
    return text.str();
}

class TorchScript : public ModuleFormat {
public:
    TorchScript(const void *bytes, uint64_t count, at::Device device) {
        std::istringstream stream(std::string(static_cast<const char *>(bytes), count));
        try {
            module = torch::jit::load(stream, device);
        } catch (const std::exception &error) {
            std::string text = error.what();
            throw Fault(
                COHORT_TORCH_INVALID, "this is no TorchScript module that PyTorch " TORCH_VERSION " reads (torch.jit.save makes one): " +
                                          text.substr(0, text.find('\n')));
        }
        // A tensor that two layers share is one.
        std::set<const void *> seen;
        for (const auto &entry : module.named_parameters(true)) {
            if (seen.insert(entry.value.unsafeGetTensorImpl()).second) {
                (entry.value.requires_grad() ? parameters : statistics).push_back({entry.name, entry.value});
            }
        }
        for (const auto &entry : module.named_buffers(true)) {
            // Counters are whole numbers, and stay where they are.
            if (entry.value.scalar_type() == at::kFloat && seen.insert(entry.value.unsafeGetTensorImpl()).second) {
                statistics.push_back({entry.name, entry.value});
            }
        }
    }

    at::Tensor forward(const at::Tensor &input) override {
        auto output = module.forward({input});
        if (!output.isTensor()) throw Fault(COHORT_TORCH_INVALID, "the module's forward gives no tensor, but " + output.tagKind());
        return output.toTensor();
    }

    void set_training(bool is_training) override { module.train(is_training); }

    std::string saved() override {
        module.eval();
        std::ostringstream stream;
        module.save(stream);
        return stream.str();
    }

private:
    torch::jit::Module module;
};

}  // namespace

std::unique_ptr<ModuleFormat> torchscript(const void *bytes, uint64_t count, at::Device device) {
    return std::make_unique<TorchScript>(bytes, count, device);
}

void save_torchscript(const cohort_torch_spec &spec, const float *weights, uint64_t count, const char *path) {
    torch::jit::Module net("SimpleDNN");
    std::string code = "def forward(self, x):\n";
    const char *activation = spec.activation == COHORT_TORCH_RELU ? "relu" : spec.activation == COHORT_TORCH_TANH ? "tanh" : "sigmoid";
    uint64_t offset = 0;
    auto next = [&](std::vector<int64_t> shape) {
        uint64_t size = 1;
        for (auto length : shape) size *= static_cast<uint64_t>(length);
        if (offset + size > count) throw Fault(COHORT_TORCH_INVALID, std::to_string(count) + " parameters are too few for this net");
        auto tensor = at::from_blob(const_cast<float *>(weights + offset), shape, at::TensorOptions().dtype(at::kFloat)).clone();
        offset += size;
        return tensor;
    };
    for (uint32_t l = 0; l + 1 < spec.width_count; ++l) {
        auto place = std::to_string(l * (spec.dropout > 0 ? 3 : 2));
        torch::jit::Module layer("Linear");
        layer.register_parameter("weight", next({spec.widths[l + 1], spec.widths[l]}), false);
        layer.register_parameter("bias", next({spec.widths[l + 1]}), false);
        net.register_module(place, layer);
        auto own = "getattr(self, \"" + place + "\")";
        code += "    x = torch.linear(x, " + own + ".weight, " + own + ".bias)\n";
        if (l + 2 < spec.width_count) code += std::string("    x = torch.") + activation + "(x)\n";
    }
    if (offset != count) throw Fault(COHORT_TORCH_INVALID, std::to_string(count) + " parameters are too many for this net");
    code += spec.task == COHORT_TORCH_CLASSIFICATION ? "    return torch.softmax(x, 1)\n" : "    return x\n";
    net.define(code);
    net.eval();
    net.save(path);
}

Module::Module(
    std::unique_ptr<ModuleFormat> given, at::Device device, cohort_torch_task task, std::vector<int64_t> shape, int64_t inputs, int64_t outputs,
    cohort_torch_precision precision)
    : Model(device, task, inputs, outputs, precision), format(std::move(given)), shape(std::move(shape)) {
    if (precision == COHORT_TORCH_BFLOAT16) throw Fault(COHORT_TORCH_INVALID, "a module of your own is trained in float32 or tf32, not in bfloat16");
    int64_t size = 1;
    for (auto length : this->shape) {
        if (length < 1 || length > inputs) throw Fault(COHORT_TORCH_INVALID, "the module's input shape has the length " + std::to_string(length));
        size *= length;
        if (size > inputs) break;
    }
    if (!this->shape.empty() && size != inputs) {
        throw Fault(
            COHORT_TORCH_INVALID, "the module takes inputs of shape " + shown(this->shape) + ", " + std::to_string(size) + " numbers; a row has " +
                                      std::to_string(inputs) + " features");
    }
    if (format->parameters.empty()) throw Fault(COHORT_TORCH_INVALID, "the module has no parameters that can be trained");
    int64_t of_optimizer = 0, all = 0;
    for (auto *group : {&format->parameters, &format->statistics}) {
        for (auto &parameter : *group) {
            if (parameter.tensor.scalar_type() != at::kFloat) {
                throw Fault(
                    COHORT_TORCH_INVALID, "the module's " + parameter.name + " is " + c10::toString(parameter.tensor.scalar_type()) +
                                              "; 32-bit floats can be trained (module.float())");
            }
            tensors.push_back({parameter.name, parameter.tensor.sizes().vec()});
            all += parameter.tensor.numel();
        }
        if (group == &format->parameters) of_optimizer = all;
    }
    make_streams(all, of_optimizer);
    // The module's tensors become views of the vectors, with the values that they have.
    int64_t offset = 0;
    for (auto *group : {&format->parameters, &format->statistics}) {
        for (auto &parameter : *group) {
            auto view = weights.narrow(0, offset, parameter.tensor.numel()).view(parameter.tensor.sizes());
            view.copy_(parameter.tensor);
            parameter.tensor.set_data(view);
            if (group == &format->parameters) {
                parameter.tensor.mutable_grad() = gradients.narrow(0, offset, parameter.tensor.numel()).view(parameter.tensor.sizes());
            }
            offset += parameter.tensor.numel();
        }
    }
    // A module's dropout draws from the process's own generator.
    generator = at::globalContext().defaultGenerator(device);
}

at::Tensor Module::forward(const at::Tensor &features) {
    int64_t rows = features.size(0);
    auto input = features;
    if (!shape.empty()) {
        std::vector<int64_t> sizes{rows};
        sizes.insert(sizes.end(), shape.begin(), shape.end());
        input = features.view(sizes);
    }
    at::Tensor outputs;
    try {
        outputs = format->forward(input);
    } catch (const Fault &) {
        throw;
    } catch (const c10::OutOfMemoryError &) {
        throw;
    } catch (const std::exception &error) {
        throw Fault(COHORT_TORCH_INVALID, "the module fails on inputs of shape " + shown(input.sizes()) + ": " + last_line(error.what()));
    }
    bool is_right = outputs.sizes() == at::IntArrayRef({rows, output_count}) || (output_count == 1 && outputs.sizes() == at::IntArrayRef({rows}));
    if (!is_right || outputs.scalar_type() != at::kFloat) {
        throw Fault(
            COHORT_TORCH_INVALID, "the module gives " + std::string(c10::toString(outputs.scalar_type())) + " of shape " + shown(outputs.sizes()) +
                                      " for inputs of shape " + shown(input.sizes()) + "; floats of shape " + shown({rows, output_count}) +
                                      " are needed: a number a class before softmax, or the one that is predicted");
    }
    return outputs.view({rows, output_count});
}

at::Tensor Module::mean_loss(const at::Tensor &outputs, const at::Tensor &targets, bool is_trained) const {
    if (task == COHORT_TORCH_REGRESSION) {
        auto numbers = targets.unsqueeze(1);
        switch (is_trained ? loss_options.number_loss : COHORT_TORCH_MSE) {
        case COHORT_TORCH_L1: return at::l1_loss(outputs, numbers);
        case COHORT_TORCH_HUBER: return at::huber_loss(outputs, numbers);
        case COHORT_TORCH_MSE: return at::mse_loss(outputs, numbers);
        }
    }
    std::optional<at::Tensor> weight;
    if (is_trained && class_weights.defined()) weight = class_weights;
    return at::cross_entropy_loss(outputs, targets.to(at::kLong), weight, at::Reduction::Mean, -100, is_trained ? loss_options.label_smoothing : 0);
}

void Module::add(const at::Tensor &outputs, const at::Tensor &targets, const at::Tensor &mean) {
    sums.select(0, 0).add_(mean.to(at::kDouble) * static_cast<double>(targets.size(0)));
    if (task == COHORT_TORCH_CLASSIFICATION) {
        sums.select(0, 1).add_(at::argmax(outputs, 1).eq(targets.to(at::kLong)).sum());
    } else {
        sums.select(0, 2).add_(targets.sum(at::kDouble));
        sums.select(0, 3).add_(targets.square().sum(at::kDouble));
    }
}

/// Batches of a pass, into buffers that stay.
struct Module::Batches {
    at::Tensor features, targets;
    Reader reader;

    Batches(const Module &module, const Table &table, const uint32_t *rows, uint64_t count, uint64_t size)
        : features(at::empty({static_cast<int64_t>(size), module.input_count}, module.floats)),
          targets(at::empty({static_cast<int64_t>(size)}, module.floats)), reader(table, module.device, rows, count) {}

    std::pair<at::Tensor, at::Tensor> read(uint64_t start, uint64_t size) {
        auto x = features.narrow(0, 0, static_cast<int64_t>(size)), y = targets.narrow(0, 0, static_cast<int64_t>(size));
        reader.read(x, y, static_cast<int64_t>(start));
        return {x, y};
    }
};

/// The rows of the next batch, of `left`. Batch normalization cannot train on one row: the last batch of a pass has two or more, unless a batch has one.
static uint64_t batch_rows(uint64_t size, uint64_t left) {
    auto some = std::min(size, left);
    if (size < 2 || left - some != 1) return some;
    return some > 2 ? some - 1 : some + 1;
}

cohort_torch_counts Module::train(
    const Table &table, const uint32_t *rows, uint64_t row_count, const cohort_torch_options &options, const GoesOn &goes_on) {
    check(table);
    take(options);
    sums.zero_();
    format->set_training(true);
    uint64_t size = step_rows(options, row_count);
    // One more than a batch: see batch_rows.
    Batches batches(*this, table, rows, row_count, size + 1);
    uint64_t start = 0;
    while (start < row_count && goes_on()) {
        auto some = batch_rows(size, row_count - start);
        auto [x, y] = batches.read(start, some);
        gradients.zero_();
        at::Tensor outputs, mean;
        try {
            at::AutoGradMode with_gradients(true);
            outputs = forward(x);
            mean = mean_loss(outputs, y, true);
            mean.backward();
        } catch (const c10::OutOfMemoryError &) {
            // Nothing was updated yet: the same rows again, in halves.
            if (size < 2 || reduced > 0) throw;
            size /= 2;
            reduced = size;
            continue;
        }
        // The squared error is reported for a number, whatever was minimized.
        auto is_other = task == COHORT_TORCH_REGRESSION && loss_options.number_loss != COHORT_TORCH_MSE;
        add(outputs.detach(), y, is_other ? mean_loss(outputs.detach(), y, false) : mean.detach());
        update();
        start += some;
        ++step_count;
    }
    return counts(start);
}

cohort_torch_counts Module::evaluate(const Table &table, const uint32_t *rows, uint64_t row_count, const GoesOn &goes_on) {
    check(table);
    sums.zero_();
    format->set_training(false);
    auto size = std::max<uint64_t>(1, std::min(evaluation_rows, row_count));
    Batches batches(*this, table, rows, row_count, size);
    uint64_t start = 0;
    while (start < row_count && goes_on()) {
        auto some = std::min(size, row_count - start);
        auto [x, y] = batches.read(start, some);
        auto outputs = forward(x);
        add(outputs, y, mean_loss(outputs, y, false));
        start += some;
    }
    return counts(start);
}

void Module::predict(const float *features, uint64_t row_count, float *outputs) {
    format->set_training(false);
    auto options = at::TensorOptions().dtype(at::kFloat);
    auto all = at::from_blob(const_cast<float *>(features), {static_cast<int64_t>(row_count), input_count}, options);
    auto results = at::from_blob(outputs, {static_cast<int64_t>(row_count), output_count}, options);
    for (uint64_t start = 0; start < row_count; start += evaluation_rows) {
        auto some = static_cast<int64_t>(std::min(evaluation_rows, row_count - start));
        auto given = forward(all.narrow(0, static_cast<int64_t>(start), some).to(device));
        results.narrow(0, static_cast<int64_t>(start), some).copy_(task == COHORT_TORCH_CLASSIFICATION ? at::softmax(given, 1) : given);
    }
}

}  // namespace cohort
