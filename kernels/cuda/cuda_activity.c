/* cuda_activity.c -- see cuda_activity.h. NVML is part of the driver and has no header in the
 * toolkit's wheels; of its interface four functions are needed, which have not changed since 2016.
 */
#include "kernels/cuda/cuda_activity.h"

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

struct utilization {
    unsigned gpu, memory;
};

enum { CLOCK_SM = 1 };

static struct {
    void *device; /* NULL: nobody says */
    int (*utilization)(void *device, struct utilization *ret);
    int (*clock)(void *device, int which, unsigned *ret_mhz);
} nvml;

/* C has no cast from an object to a function. */
static void find(void *library, const char *name, void *ret_function)
{
    void *symbol = dlsym(library, name);

    memcpy(ret_function, &symbol, sizeof symbol);
}

void cuda_activity_open(const char *bus)
{
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL), *device = NULL;
    int (*init)(void), (*by_bus)(const char *bus, void **ret_device);

    if (library == NULL)
        return;
    find(library, "nvmlInit_v2", &init);
    find(library, "nvmlDeviceGetHandleByPciBusId_v2", &by_bus);
    find(library, "nvmlDeviceGetUtilizationRates", &nvml.utilization);
    find(library, "nvmlDeviceGetClockInfo", &nvml.clock);
    if (init == NULL || by_bus == NULL || nvml.utilization == NULL || nvml.clock == NULL)
        return;
    if (init() == 0 && by_bus(bus, &device) == 0)
        nvml.device = device;
}

int cuda_activity(uint32_t *ret_busy_percent, uint32_t *ret_clock_mhz)
{
    struct utilization busy;
    unsigned mhz;

    if (nvml.device == NULL || nvml.utilization(nvml.device, &busy) != 0 ||
        nvml.clock(nvml.device, CLOCK_SM, &mhz) != 0)
        return -ENOTSUP;
    *ret_busy_percent = busy.gpu;
    *ret_clock_mhz = mhz;
    return 0;
}
