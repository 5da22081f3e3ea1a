// What a pass depends on, as values that can be compared: see cohort_torch_options.
#pragma once

#include "cohort_torch.h"

#include <optional>
#include <vector>

namespace cohort {

struct Optimizer {
    cohort_torch_optimizer name = COHORT_TORCH_ADAM;
    double momentum = 0, weight_decay = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
    bool nesterov = false;

    bool operator==(const Optimizer &) const = default;
};

struct Loss {
    std::vector<double> class_weights;
    double label_smoothing = 0;
    double gradient_clip = 0;
    double proximal_mu = 0;
    cohort_torch_loss number_loss = COHORT_TORCH_MSE;

    bool operator==(const Loss &) const = default;
};

}  // namespace cohort
