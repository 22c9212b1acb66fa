/* cuda_activity.h -- the device's clock and how busy it is, by the driver's NVML where it is. */
#ifndef LEARND_CUDA_ACTIVITY_H
#define LEARND_CUDA_ACTIVITY_H

#include <stdint.h>

/* bus: the device's PCI bus id. Once, before the other. Without NVML there is no activity. */
void cuda_activity_open(const char *bus);
/* 0, -ENOTSUP. Any thread. */
int cuda_activity(uint32_t *ret_busy_percent, uint32_t *ret_clock_mhz);

#endif
