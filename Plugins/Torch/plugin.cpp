// The border: C functions around Net and Table. Whatever is thrown behind it becomes a fault and a sentence.
#include "cohort_torch.h"
#include "fault.hpp"
#include "module.hpp"
#include "net.hpp"
#include "table.hpp"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/version.h>

#ifdef COHORT_TORCH_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <cuda_runtime_api.h>
#endif

#include <algorithm>
#include <cstdio>
#include <memory>
#include <new>
#include <string>
#include <vector>

struct cohort_torch_table : cohort::Table {
    using cohort::Table::Table;
};

struct cohort_torch_model {
    std::unique_ptr<cohort::Model> model;
};

namespace {

thread_local std::string message;

int fail(cohort_torch_fault kind, const char *text) {
    message = text;
    return kind;
}

/// An error of libtorch's has a sentence, then where in libtorch it was thrown: people get the sentence.
std::string first_line(const std::string &text) { return text.substr(0, text.find('\n')); }

template <typename Work> int guarded(Work work) noexcept {
    try {
        try {
            at::NoGradGuard no_gradients;
            work();
            return COHORT_TORCH_OK;
        } catch (const cohort::Fault &fault) {
            return fail(fault.kind, fault.what());
        } catch (const c10::OutOfMemoryError &error) {
            return fail(COHORT_TORCH_MEMORY, first_line(error.what_without_backtrace()).c_str());
        } catch (const c10::Error &error) {
            return fail(COHORT_TORCH_FAILED, first_line(error.what_without_backtrace()).c_str());
        } catch (const std::bad_alloc &) {
            return fail(COHORT_TORCH_MEMORY, "this machine has no memory left for it");
        } catch (const std::exception &error) {
            return fail(COHORT_TORCH_FAILED, first_line(error.what()).c_str());
        } catch (...) {
            return fail(COHORT_TORCH_FAILED, "libtorch failed without saying why");
        }
    } catch (...) {
        // Not even the sentence could be kept.
        return COHORT_TORCH_FAILED;
    }
}

/// - Throws: Fault for a device that is not here.
at::Device device_named(const char *name) {
    std::string text = name;
    if (text == "cpu") return at::Device(at::kCPU);
    auto count = at::hasCUDA() ? static_cast<int>(c10::impl::VirtualGuardImpl(at::kCUDA).deviceCount()) : 0;
    for (int index = 0; index < count; ++index) {
        if (text == "cuda:" + std::to_string(index)) return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index));
    }
    throw cohort::Fault(COHORT_TORCH_INVALID, "there is no device " + text + " here");
}

int32_t cuda_devices() {
    int32_t count = 0;
    guarded([&] { count = at::hasCUDA() ? static_cast<int32_t>(c10::impl::VirtualGuardImpl(at::kCUDA).deviceCount()) : 0; });
    return count;
}

const char *cuda_note() {
    if (cuda_devices() > 0) return "";
#ifdef COHORT_TORCH_HAS_CUDA
    return "PyTorch finds no GPU: there is no NVIDIA driver, or no device";
#else
    return "this PyTorch was built without CUDA";
#endif
}

int cuda_describe(int32_t index, char *name, size_t capacity, uint64_t *bytes) {
    return guarded([&] {
        if (index < 0 || index >= cuda_devices()) throw cohort::Fault(COHORT_TORCH_INVALID, "there is no device cuda:" + std::to_string(index) + " here");
#ifdef COHORT_TORCH_CUDA
        auto *properties = at::cuda::getDeviceProperties(static_cast<c10::DeviceIndex>(index));
        std::snprintf(name, capacity, "%s", properties->name);
        *bytes = properties->totalGlobalMem;
#else
        std::snprintf(name, capacity, "CUDA device %d", index);
        *bytes = 0;
#endif
    });
}

template <typename Work> int on(at::Device device, Work work) noexcept {
    return guarded([&] {
        c10::OptionalDeviceGuard guard;
        if (!device.is_cpu()) guard.reset_device(device);
        work();
    });
}

void check_count(const cohort_torch_model *model, uint64_t count) {
    auto expected = static_cast<uint64_t>(model->model->parameter_count());
    if (count != expected) {
        throw cohort::Fault(COHORT_TORCH_INVALID, std::to_string(count) + " parameters were given; this net has " + std::to_string(expected));
    }
}

/// Some work of each kind: with it libraries look at the processor, seed their generators and start their threads.
void read_once() {
    at::NoGradGuard no_gradients;
    auto values = at::randn({64, 64});
    at::mm(values, values);
    at::conv2d(values.view({1, 1, 64, 64}), at::randn({4, 1, 3, 3}));
    at::dropout(values, 0.5, true);
}

const cohort_torch_api api = {
    .interface = COHORT_TORCH_INTERFACE,
    .version = TORCH_VERSION,
    .last_error = [] { return message.c_str(); },
    .cuda_devices = cuda_devices,
    .cuda_note = cuda_note,
    .cuda_describe = cuda_describe,
    .set_threads = [](int32_t count) { guarded([&] { at::set_num_threads(count < 1 ? 1 : count); }); },
    .read_once = [] { guarded(read_once); },
    .make_table =
        [](const char *device, const float *features, const float *targets, uint64_t rows, uint64_t width, cohort_torch_table **table) {
            return guarded([&] { *table = new cohort_torch_table(device_named(device), features, targets, rows, width); });
        },
    .table_is_resident = [](const cohort_torch_table *table) -> int32_t { return table->is_resident ? 1 : 0; },
    .free_table = [](cohort_torch_table *table) { guarded([&] { delete table; }); },
    .make_model =
        [](const char *device, const cohort_torch_spec *spec, cohort_torch_precision precision, cohort_torch_model **model) {
            return guarded([&] { *model = new cohort_torch_model{std::make_unique<cohort::Net>(device_named(device), *spec, precision)}; });
        },
    .make_module =
        [](const char *device, const cohort_torch_module *about, cohort_torch_precision precision, cohort_torch_model **model) {
            return guarded([&] {
                auto place = device_named(device);
                *model = new cohort_torch_model{std::make_unique<cohort::Module>(
                    cohort::torchscript(about->bytes, about->byte_count, place), place, about->task,
                    std::vector<int64_t>(about->shape, about->shape + about->shape_count), static_cast<int64_t>(about->inputs),
                    static_cast<int64_t>(about->outputs), precision)};
            });
        },
    .free_model = [](cohort_torch_model *model) { guarded([&] { delete model; }); },
    .parameter_count = [](const cohort_torch_model *model) { return static_cast<uint64_t>(model->model->parameter_count()); },
    .tensor_count = [](const cohort_torch_model *model) { return static_cast<uint64_t>(model->model->tensors.size()); },
    .tensor =
        [](const cohort_torch_model *model, uint64_t index, char *name, size_t capacity, int64_t shape[8], uint32_t *shape_count) {
            return guarded([&] {
                if (index >= model->model->tensors.size()) throw cohort::Fault(COHORT_TORCH_INVALID, "there is no tensor " + std::to_string(index));
                const auto &tensor = model->model->tensors[index];
                if (tensor.shape.size() > 8) throw cohort::Fault(COHORT_TORCH_INVALID, tensor.name + " has more than 8 dimensions");
                std::snprintf(name, capacity, "%s", tensor.name.c_str());
                std::copy(tensor.shape.begin(), tensor.shape.end(), shape);
                *shape_count = static_cast<uint32_t>(tensor.shape.size());
            });
        },
    .trained_tensor_count = [](const cohort_torch_model *model) { return static_cast<uint64_t>(model->model->trained_tensors()); },
    .read =
        [](cohort_torch_model *model, cohort_torch_stream stream, float *values, uint64_t count) {
            return on(model->model->device, [&] {
                check_count(model, count);
                model->model->read(stream, values);
            });
        },
    .load =
        [](cohort_torch_model *model, const float *weights, uint64_t count, int32_t keeps_optimizer) {
            return on(model->model->device, [&] {
                check_count(model, count);
                model->model->load(weights, keeps_optimizer != 0);
            });
        },
    .steps = [](const cohort_torch_model *model) { return model->model->steps(); },
    .restore =
        [](cohort_torch_model *model, const cohort_torch_options *options, const float *first, const float *second, uint64_t count, uint64_t steps) {
            return on(model->model->device, [&] {
                check_count(model, count);
                model->model->restore(*options, first, second, steps);
            });
        },
    .correct =
        [](cohort_torch_model *model, const float *correction, uint64_t count) {
            return on(model->model->device, [&] {
                check_count(model, count);
                model->model->correct(correction);
            });
        },
    .train =
        [](cohort_torch_model *model, const cohort_torch_table *table, const uint32_t *rows, uint64_t count, const cohort_torch_options *options,
           int32_t (*goes_on)(void *), void *context, cohort_torch_counts *counts) {
            return on(model->model->device, [&] { *counts = model->model->train(*table, rows, count, *options, [&] { return goes_on(context) != 0; }); });
        },
    .evaluate =
        [](cohort_torch_model *model, const cohort_torch_table *table, const uint32_t *rows, uint64_t count, int32_t (*goes_on)(void *),
           void *context, cohort_torch_counts *counts) {
            return on(model->model->device, [&] { *counts = model->model->evaluate(*table, rows, count, [&] { return goes_on(context) != 0; }); });
        },
    .predict =
        [](cohort_torch_model *model, const float *features, uint64_t rows, float *outputs) {
            return on(model->model->device, [&] { model->model->predict(features, rows, outputs); });
        },
    .save_torchscript =
        [](const cohort_torch_spec *spec, const float *weights, uint64_t count, const char *path) {
            return guarded([&] { cohort::save_torchscript(*spec, weights, count, path); });
        },
    .save_module =
        [](cohort_torch_model *model, void (*take)(void *context, const void *bytes, uint64_t count), void *context) {
            return on(model->model->device, [&] {
                auto bytes = model->model->saved();
                take(context, bytes.data(), bytes.size());
            });
        },
    .reduced_batch = [](const cohort_torch_model *model) { return model->model->reduced_batch(); },
};

}  // namespace

extern "C" __attribute__((visibility("default"))) const cohort_torch_api *cohort_torch_open(uint32_t interface, uint32_t *served) {
    *served = COHORT_TORCH_INTERFACE;
    return interface == COHORT_TORCH_INTERFACE ? &api : nullptr;
}
