// PyTorch behind plain C: what the plugin (Plugins/Torch) gives and `cohort` calls. The plugin is a shared library that exports one function,
// `cohort_torch_open`. No C++ type and no exception crosses this border.
//
// A handle belongs to one thread at a time. A call that can fail returns 0, or an enum cohort_torch_fault; `last_error` then has the sentence.
// Floats are 32 bits, arrays are row-major and in the caller's memory, on the host.
#ifndef COHORT_TORCH_H
#define COHORT_TORCH_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// The version of this interface, raised by every change; a plugin implements one.
#define COHORT_TORCH_INTERFACE 5

enum cohort_torch_fault {
    COHORT_TORCH_OK = 0,
    /// An invalid device, shape or option.
    COHORT_TORCH_INVALID = 1,
    /// The device has no memory left for it.
    COHORT_TORCH_MEMORY = 2,
    /// libtorch's own error.
    COHORT_TORCH_FAILED = 3,
};

enum cohort_torch_activation { COHORT_TORCH_RELU = 0, COHORT_TORCH_TANH = 1, COHORT_TORCH_SIGMOID = 2 };
enum cohort_torch_task { COHORT_TORCH_CLASSIFICATION = 0, COHORT_TORCH_REGRESSION = 1 };
/// What a number's training minimizes; sums are of squared errors in any case. Classes: cross-entropy.
enum cohort_torch_loss { COHORT_TORCH_MSE = 0, COHORT_TORCH_L1 = 1, COHORT_TORCH_HUBER = 2 };
enum cohort_torch_optimizer { COHORT_TORCH_SGD = 0, COHORT_TORCH_ADAM = 1, COHORT_TORCH_ADAMW = 2 };
/// A stream has one float a parameter. `first` is SGD's momentum or Adam's mean of gradients, `second` Adam's mean of their squares.
enum cohort_torch_stream { COHORT_TORCH_WEIGHTS = 0, COHORT_TORCH_FIRST_MOMENT = 1, COHORT_TORCH_SECOND_MOMENT = 2 };
/// How products of matrices are made: in 32-bit floats; on a GPU with their inputs rounded to TF32 (10 bits of mantissa); with activations and
/// their gradients in bfloat16 (7 bits). Weights, losses and the optimizer are 32-bit floats in each.
enum cohort_torch_precision { COHORT_TORCH_FLOAT32 = 0, COHORT_TORCH_TF32 = 1, COHORT_TORCH_BFLOAT16 = 2 };

/// A SimpleDNN: widths[0] inputs → … → widths[width_count - 1] outputs.
typedef struct {
    const uint32_t *widths;
    uint32_t width_count;
    enum cohort_torch_activation activation;
    enum cohort_torch_task task;
    /// Probability that a hidden unit is dropped in a training step, 0 ..< 1.
    double dropout;
} cohort_torch_spec;

/// What a pass depends on, beside rows and weights.
typedef struct {
    enum cohort_torch_optimizer optimizer;
    double momentum;
    int32_t nesterov;
    double weight_decay, beta1, beta2, epsilon;
    double learning_rate;
    uint64_t batch_size;
    /// One a class, or NULL.
    const double *class_weights;
    /// 0 ..< 1 of each row's target is shared out among all classes.
    double label_smoothing;
    enum cohort_torch_loss number_loss;
    /// A larger norm of a step's gradient is scaled down to this; 0: never.
    double gradient_clip;
    /// μ: after each step w -= learning_rate·μ·(w - w0), w0 being the weights that were loaded; 0: not.
    double proximal_mu;
    /// What dropout's masks are drawn from.
    uint64_t dropout_seed;
} cohort_torch_options;

/// Sums over the rows of a pass.
typedef struct {
    uint64_t samples;
    double loss_sum;
    uint64_t correct;
    double target_sum, target_square_sum;
} cohort_torch_counts;

/// A module that Python saved (torch.jit.save), as a model: forward takes [rows, shape…] and gives [rows, outputs], a number a class before
/// softmax, or one number.
typedef struct {
    const void *bytes;
    uint64_t byte_count;
    /// Of one row; none: [inputs].
    const int64_t *shape;
    uint32_t shape_count;
    uint64_t inputs, outputs;
    enum cohort_torch_task task;
} cohort_torch_module;

typedef struct cohort_torch_table cohort_torch_table;
typedef struct cohort_torch_model cohort_torch_model;

typedef struct {
    /// COHORT_TORCH_INTERFACE of the plugin's build.
    uint32_t interface;
    /// Of libtorch, such as 2.9.1.
    const char *version;
    /// Of the calling thread's last call that failed; stays until its next one.
    const char *(*last_error)(void);

    /// How many CUDA devices there are; 0 where PyTorch was built without CUDA or finds no driver.
    int32_t (*cuda_devices)(void);
    /// Why there is none, or an empty text. Stays.
    const char *(*cuda_note)(void);
    /// Name (cut to `capacity`, its final zero included) and bytes of memory.
    int (*cuda_describe)(int32_t index, char *name, size_t capacity, uint64_t *bytes);

    /// Threads of all CPU work of this process.
    void (*set_threads)(int32_t count);
    /// Does some work on the CPU, with which libraries read what they read from the system once: a process that opens no file afterwards
    /// computes as any other.
    void (*read_once)(void);

    /// A table for a device, `cpu` or `cuda:N`. On the CPU, and where it does not fit on the device, the memory stays the caller's and must
    /// outlive the table; on a GPU it is copied once. Features [rows, width], targets [rows].
    int (*make_table)(const char *device, const float *features, const float *targets, uint64_t rows, uint64_t width, cohort_torch_table **table);
    /// 1 when its rows are in the device's own memory.
    int32_t (*table_is_resident)(const cohort_torch_table *table);
    void (*free_table)(cohort_torch_table *table);

    /// A model with all its buffers; its weights are 0.
    int (*make_model)(const char *device, const cohort_torch_spec *spec, enum cohort_torch_precision precision, cohort_torch_model **model);
    /// As above, with the weights that it was saved with. Its code runs when it trains, evaluates and predicts, with all that this process may do.
    int (*make_module)(
        const char *device, const cohort_torch_module *module, enum cohort_torch_precision precision, cohort_torch_model **model);
    void (*free_model)(cohort_torch_model *model);
    uint64_t (*parameter_count)(const cohort_torch_model *model);
    /// Of the vector of parameters, in its order. A name is cut to `capacity`, its final zero included; a shape has at most 8 lengths.
    uint64_t (*tensor_count)(const cohort_torch_model *model);
    int (*tensor)(const cohort_torch_model *model, uint64_t index, char *name, size_t capacity, int64_t shape[8], uint32_t *shape_count);

    /// How many of the tensors, from the first on, the optimizer trains; those behind them are a module's own statistics.
    uint64_t (*trained_tensor_count)(const cohort_torch_model *model);

    /// `count` floats, all parameters; of a net weights of layer 0 [out, in], its biases [out], layer 1 …
    int (*read)(cohort_torch_model *model, enum cohort_torch_stream stream, float *values, uint64_t count);
    /// Sets the weights and restarts dropout; empties the optimizer's moments unless they are to be kept.
    int (*load)(cohort_torch_model *model, const float *weights, uint64_t count, int32_t keeps_optimizer);
    /// Steps since the moments were empty; Adam corrects by it.
    uint64_t (*steps)(const cohort_torch_model *model);
    /// The optimizer of `options` goes on from these moments after so many steps; NULL: zeros.
    int (*restore)(
        cohort_torch_model *model, const cohort_torch_options *options, const float *first, const float *second, uint64_t count, uint64_t steps);
    /// From here on each step also takes w -= learning_rate·correction; NULL: none does.
    int (*correct)(cohort_torch_model *model, const float *correction, uint64_t count);

    /// One pass over rows[0 ..< count] of the table in that order, a step a batch. `goes_on` is asked before each batch; 0 ends the pass.
    /// Sums are measured before each update. Another optimizer than in the pass before empties its moments.
    int (*train)(
        cohort_torch_model *model, const cohort_torch_table *table, const uint32_t *rows, uint64_t count, const cohort_torch_options *options,
        int32_t (*goes_on)(void *context), void *context, cohort_torch_counts *counts);
    /// Sums over the rows, without dropout, without change.
    int (*evaluate)(
        cohort_torch_model *model, const cohort_torch_table *table, const uint32_t *rows, uint64_t count, int32_t (*goes_on)(void *context),
        void *context, cohort_torch_counts *counts);
    /// features [rows, inputs] → outputs [rows, outputs]: class probabilities, or standardized numbers.
    int (*predict)(cohort_torch_model *model, const float *features, uint64_t rows, float *outputs);
    /// Writes a net with these weights as TorchScript: `torch.jit.load(path)` takes features [rows, inputs] and gives class probabilities, or
    /// standardized numbers, [rows, outputs]; its parameters are named as nn.Sequential names them.
    int (*save_torchscript)(const cohort_torch_spec *spec, const float *weights, uint64_t count, const char *path);
    /// Hands out a module with its weights as they are, ready to predict, as `torch.jit.save` would write it; not of a net.
    int (*save_module)(cohort_torch_model *model, void (*take)(void *context, const void *bytes, uint64_t count), void *context);
    /// Rows that a step really had when the device's memory was too small for the batch asked for, else 0.
    uint64_t (*reduced_batch)(const cohort_torch_model *model);
} cohort_torch_api;

/// What the plugin exports. NULL when it does not serve this interface; `served` then says which one it does.
typedef const cohort_torch_api *(*cohort_torch_open_function)(uint32_t interface, uint32_t *served);

/// Of `cohort`: opens the plugin at `path`, once; it stays open.
/// - Returns NULL, with a sentence in `error`, when it is not there, cannot be loaded, or serves another interface.
const cohort_torch_api *cohort_torch_load(const char *path, char *error, size_t capacity);

#ifdef __cplusplus
}
#endif

#endif
