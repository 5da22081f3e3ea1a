// What went wrong, as the border tells it.
#pragma once

#include "cohort_torch.h"

#include <stdexcept>
#include <string>

namespace cohort {

struct Fault : std::runtime_error {
    cohort_torch_fault kind;
    Fault(cohort_torch_fault kind, const std::string &text) : std::runtime_error(text), kind(kind) {}
};

}  // namespace cohort
