#include "table.hpp"

#include "fault.hpp"

namespace cohort {

Table::Table(at::Device device, const float *features, const float *targets, uint64_t rows, uint64_t width) : device(device), is_resident(false) {
    // Row numbers are 32 bits wide, and libtorch takes them as signed.
    if (rows > INT32_MAX) throw Fault(COHORT_TORCH_INVALID, "the table has " + std::to_string(rows) + " rows; the torch engine takes at most 2147483647");
    auto floats = at::TensorOptions().dtype(at::kFloat);
    // from_blob takes no const; these tensors are only read.
    this->features = at::from_blob(const_cast<float *>(features), {static_cast<int64_t>(rows), static_cast<int64_t>(width)}, floats);
    this->targets = at::from_blob(const_cast<float *>(targets), {static_cast<int64_t>(rows)}, floats);
    if (device.is_cpu()) {
        is_resident = true;
        return;
    }
    try {
        auto own_features = this->features.to(device), own_targets = this->targets.to(device);
        this->features = own_features;
        this->targets = own_targets;
        is_resident = true;
    } catch (const c10::OutOfMemoryError &) {
        // Batches are sent one by one instead.
    }
}

}  // namespace cohort
