// Batches of a table's rows.
#pragma once

#include "fault.hpp"
#include "table.hpp"

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <memory>
#include <string>
#include <vector>

namespace cohort {

inline at::Tensor rows_on_host(const uint32_t *rows, uint64_t count) {
    // Row numbers are below 2³¹: Table sees to that.
    return at::from_blob(const_cast<uint32_t *>(rows), {static_cast<int64_t>(count)}, at::TensorOptions().dtype(at::kInt));
}

inline void check_rows(const uint32_t *rows, uint64_t count, int64_t limit) {
    for (uint64_t i = 0; i < count; ++i) {
        if (rows[i] >= limit) throw Fault(COHORT_TORCH_INVALID, "row " + std::to_string(rows[i]) + " was asked for of a table of " + std::to_string(limit));
    }
}

/// Copies batch after batch from where the table is. From a host to a GPU they go through two buffers that its driver can read by itself,
/// so that the next one is collected while the last one is sent.
struct Reader {
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

    /// The rows from `start` on, as many as the targets.
    void read(at::Tensor &features, at::Tensor &targets, int64_t start) {
        int64_t count = targets.size(0);
        auto rows = order.narrow(0, start, count);
        if (table.is_resident) {
            at::index_select_out(features, table.features, 0, rows);
            at::index_select_out(targets, table.targets, 0, rows);
            return;
        }
        if (staging.empty()) {
            auto pinned = at::TensorOptions().dtype(at::kFloat).pinned_memory(true);
            for (int i = 0; i < 2; ++i) {
                staging.push_back(std::make_unique<Staging>());
                staging.back()->features = at::empty({count, table.width()}, pinned);
                staging.back()->targets = at::empty({count}, pinned);
            }
        }
        auto &buffer = *staging[turn++ % 2];
        if (buffer.is_used) buffer.sent.synchronize();
        auto own_features = buffer.features.narrow(0, 0, count), own_targets = buffer.targets.narrow(0, 0, count);
        at::index_select_out(own_features, table.features, 0, rows);
        at::index_select_out(own_targets, table.targets, 0, rows);
        features.copy_(own_features, true);
        targets.copy_(own_targets, true);
        c10::impl::VirtualGuardImpl guard(device.type());
        buffer.sent.record(guard.getStream(device));
        buffer.is_used = true;
    }
};

}  // namespace cohort
