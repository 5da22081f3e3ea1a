#include "include/cohort_torch.h"

#include <dlfcn.h>
#include <stdio.h>

const cohort_torch_api *cohort_torch_load(const char *path, char *error, size_t capacity) {
    // Its symbols stay its own: libtorch brings libraries, such as OpenMP's, that others bring as well.
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(error, capacity, "%s", dlerror());
        return NULL;
    }
    cohort_torch_open_function open = (cohort_torch_open_function)dlsym(library, "cohort_torch_open");
    if (!open) {
        snprintf(error, capacity, "%s is no PyTorch plugin of Cohort: it has no cohort_torch_open", path);
        dlclose(library);
        return NULL;
    }
    uint32_t served = 0;
    const cohort_torch_api *api = open(COHORT_TORCH_INTERFACE, &served);
    if (!api) {
        snprintf(
            error, capacity, "%s was built for interface %u of the plugin, this cohort needs %u: build it again with `make torch`", path, served,
            (unsigned)COHORT_TORCH_INTERFACE);
        return NULL;
    }
    return api;
}
