/* device.h -- on what encoders compute and are trained, and the way back to the CPU.
 *
 * Chosen once, at start: a GPU where one is fit and its backend loads, else the CPU. Who asked for
 * a device that is not to be had gets the CPU and one line that says why; the daemon starts.
 *
 * A device may fail while it serves. A batch whose sync fails is answered with an error, never with
 * what stands in its memory, and its lane begins anew with another context. DEVICE_FAILURES of them
 * within DEVICE_FAILURES_US, or one that says the device is gone, and it is lost: every encoder is
 * opened again on the CPU from its folder (encoders.h), and there it stays until the next start.
 * The daemon is then degraded: right, but slow.
 *
 * Functions take NULL for the CPU. Threads: any.
 */
#ifndef LEARND_DEVICE_H
#define LEARND_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/backend.h"

struct device;

enum { DEVICE_FAILURES = 3, DEVICE_WHY_BYTES = 320 };
#define DEVICE_FAILURES_US INT64_C(60000000)

/* "auto", "cpu", "cuda:N", "plugin:PATH" or "plugin:PATH:N" (a backend by its path: for tests, and
 * for other makers' devices). 0 or -EINVAL. */
int device_choice_check(const char *choice);

/* What is to be told to people, when it happens. code: "device_unavailable", "device_failed",
 * "device_lost", "device_training_failed", "device_training_on_cpu". */
typedef void device_tell_fn(void *ud, const char *code, const char *text);

/* choice: checked. 0 or -ENOMEM. */
int device_open(const char *choice, device_tell_fn *tell, void *ud, struct device **ret_device);
void device_close(struct device *device);

/* The table to open with now: the device's, or after its loss the CPU's. */
const struct backend *device_backend(const struct device *device);
/* True: what was opened on the device is to be opened on the CPU. */
bool device_lost(const struct device *device);
/* A batch failed with rc, or a context could not be opened. Tells. */
void device_failed(struct device *device, int rc, int64_t now_us);
/* It is lost, for this reason. Once is enough. */
void device_lose(struct device *device, const char *why);
/* A run failed with rc because of the device. */
void device_training_failed(struct device *device, int rc);
/* A run trains on the CPU although the device is there, because of `why`. */
void device_trains_on_cpu(struct device *device, const char *why);

/* The daemon has taken what it will need: what is asked of the driver from now on is counted. */
void device_started(struct device *device);

struct device_report {
    const char *name;                   /* that computes now: "cpu", "cuda:0" */
    bool degraded;                      /* another one was asked for, or was there */
    char why[DEVICE_WHY_BYTES];         /* of not using it; "" else */
    uint64_t memory_used, memory_total; /* held by this process, and there; 0: not counted */
    uint64_t memory_asked;              /* times the driver was asked for more since the start */
    bool active;                        /* the two that follow are known */
    uint32_t busy_percent, clock_mhz;
    uint64_t failures, training_failures, losses;
};
void device_read(struct device *device, struct device_report *ret_report);

#endif
