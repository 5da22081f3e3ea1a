// A custom model: a module that Python saved, behind one interface, so that another format can come. TorchScript is what C++ can
// train today; PyTorch means torch.export to follow it, which C++ cannot train yet.
#pragma once

#include "model.hpp"

#include <memory>
#include <string>
#include <vector>

namespace cohort {

/// What a format gives: a forward pass that autograd follows, and the tensors that it depends on.
class ModuleFormat {
public:
    virtual ~ModuleFormat() = default;

    struct Parameter {
        std::string name;
        at::Tensor tensor;
    };
    /// Trained ones; and statistics, such as batch normalization's, that forward passes write.
    std::vector<Parameter> parameters, statistics;

    virtual at::Tensor forward(const at::Tensor &input) = 0;
    virtual void set_training(bool is_training) = 0;
    /// The bytes of a file that has it, with its tensors as they are, ready to predict.
    virtual std::string saved() = 0;
};

/// - Throws: Fault for bytes that are no TorchScript of a version that this libtorch reads.
std::unique_ptr<ModuleFormat> torchscript(const void *bytes, uint64_t count, at::Device device);

/// Writes a SimpleDNN as TorchScript.
void save_torchscript(const cohort_torch_spec &spec, const float *weights, uint64_t count, const char *path);

class Module : public Model {
public:
    /// - Parameter shape: of one row's features as the module takes them; empty: as they are.
    Module(
        std::unique_ptr<ModuleFormat> format, at::Device device, cohort_torch_task task, std::vector<int64_t> shape, int64_t inputs, int64_t outputs,
        cohort_torch_precision precision);

    cohort_torch_counts train(
        const Table &table, const uint32_t *rows, uint64_t count, const cohort_torch_options &options, const GoesOn &goes_on) override;
    cohort_torch_counts evaluate(const Table &table, const uint32_t *rows, uint64_t count, const GoesOn &goes_on) override;
    void predict(const float *features, uint64_t rows, float *outputs) override;
    std::string saved() override { return format->saved(); }

private:
    std::unique_ptr<ModuleFormat> format;
    std::vector<int64_t> shape;

    at::Tensor forward(const at::Tensor &features);
    at::Tensor mean_loss(const at::Tensor &outputs, const at::Tensor &targets, bool is_trained) const;
    /// To `sums`.
    void add(const at::Tensor &outputs, const at::Tensor &targets, const at::Tensor &mean);
    struct Batches;
};

}  // namespace cohort
