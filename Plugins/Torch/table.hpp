// A table of features and targets where a device wants it.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace cohort {

struct Table {
    /// Features [rows, width] and targets [rows] of a table on the host are the caller's memory.
    /// A GPU's are copied into its own memory; where they do not fit they stay on the host.
    Table(at::Device device, const float *features, const float *targets, uint64_t rows, uint64_t width);

    at::Device device;
    at::Tensor features, targets;
    bool is_resident;

    int64_t rows() const { return features.size(0); }
    int64_t width() const { return features.size(1); }
};

}  // namespace cohort
