#include "recording.hpp"

#ifdef COHORT_TORCH_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <optional>
#endif

namespace cohort {

#ifdef COHORT_TORCH_CUDA

namespace {
/// Steps before the recording, in which cuBLAS makes its handles and workspaces.
constexpr int warm_up = 3;
}  // namespace

struct Recording::State {
    c10::cuda::CUDAStream stream;
    std::optional<c10::cuda::CUDAStreamGuard> guard;
    std::optional<c10::cuda::CUDAStream> outer;
    std::unique_ptr<at::cuda::CUDAGraph> graph;
    /// The table that it reads: where, and how much.
    const void *features, *targets;
    int64_t table_rows;
    int64_t rows;
    int steps = 0;
    /// The pass's order, the place of the next batch in it, and the next batch's row numbers.
    at::Tensor order, place, offsets, next;

    State(at::Device device, const Table &table, int64_t rows)
        : stream(c10::cuda::getStreamFromPool(false, device.index())), features(table.features.const_data_ptr()),
          targets(table.targets.const_data_ptr()), table_rows(table.rows()), rows(rows) {
        auto whole = at::TensorOptions().dtype(at::kLong).device(device);
        place = at::zeros({}, whole);
        offsets = at::arange(rows, whole);
        next = at::empty({rows}, whole.dtype(at::kInt));
    }

    void advance() {
        at::index_select_out(next, order, 0, offsets.add(place));
        place.add_(rows);
    }
};

bool Recording::can_be(at::Device device) { return device.is_cuda(); }

Recording::Recording(at::Device device, const Table &table, int64_t rows) : state(std::make_unique<State>(device, table, rows)) {}
Recording::~Recording() = default;

bool Recording::fits(const Table &table, int64_t rows) const {
    return state->features == table.features.const_data_ptr() && state->targets == table.targets.const_data_ptr() && state->table_rows == table.rows() &&
           state->rows == rows;
}

void Recording::begin(const at::Tensor &order) {
    // What the pass is made of was written on the stream that this one comes from.
    auto outer = c10::cuda::getCurrentCUDAStream(state->stream.device_index());
    at::cuda::CUDAEvent written;
    written.record(outer);
    written.block(state->stream);
    state->outer = outer;
    state->guard.emplace(state->stream);
    if (!state->order.defined() || state->order.size(0) < order.size(0)) {
        // The graph reads the order where it was when it was recorded.
        state->graph.reset();
        state->steps = std::min(state->steps, warm_up);
        state->order = at::zeros_like(order);
    }
    state->order.narrow(0, 0, order.size(0)).copy_(order);
    state->place.zero_();
}

void Recording::step(const std::function<void(const at::Tensor &rows)> &work) {
    if (state->graph) {
        state->graph->replay();
        return;
    }
    if (state->steps++ < warm_up) {
        state->advance();
        work(state->next);
        return;
    }
    auto graph = std::make_unique<at::cuda::CUDAGraph>();
    // Other threads of this process may go on with other devices.
    graph->capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    try {
        state->advance();
        work(state->next);
    } catch (...) {
        graph->capture_end();
        throw;
    }
    graph->capture_end();
    graph->replay();
    state->graph = std::move(graph);
}

void Recording::end() {
    at::cuda::CUDAEvent done;
    done.record(state->stream);
    state->guard.reset();
    if (state->outer) done.block(*state->outer);
}

#else

struct Recording::State {};

bool Recording::can_be(at::Device) { return false; }
Recording::Recording(at::Device, const Table &, int64_t) {}
Recording::~Recording() = default;
bool Recording::fits(const Table &, int64_t) const { return false; }
void Recording::begin(const at::Tensor &) {}
void Recording::step(const std::function<void(const at::Tensor &)> &) {}
void Recording::end() {}

#endif

}  // namespace cohort
