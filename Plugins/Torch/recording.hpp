// A training step recorded as a CUDA graph: replayed, it costs one launch. Without CUDA's headers at build time steps are launched one by one.
#pragma once

#include "table.hpp"

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>

namespace cohort {

class Recording {
public:
    static bool can_be(at::Device device);

    Recording(at::Device device, const Table &table, int64_t rows);
    ~Recording();

    bool fits(const Table &table, int64_t rows) const;
    /// One pass over rows whose numbers are on the device. While it lives, work goes to the recording's own stream.
    struct Pass {
        Pass(Recording &recording, const at::Tensor &order) : recording(recording) { recording.begin(order); }
        ~Pass() { recording.end(); }
        Recording &recording;
    };

    /// The next rows' step. `work` gets their numbers in a tensor that stays the same; it is called for the first steps, which warm up
    /// libraries, and once to be recorded.
    void step(const std::function<void(const at::Tensor &rows)> &work);

private:
    void begin(const at::Tensor &order);
    void end();

    struct State;
    std::unique_ptr<State> state;
};

}  // namespace cohort
