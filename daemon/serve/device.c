/* device.c -- see device.h. */
#include "daemon/serve/device.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/backend_load.h"

enum { PATH_BYTES = 4096, ORDINAL_MAX = 63 };

struct device {
    const struct backend *backend; /* as it was chosen */
    device_tell_fn *tell;
    void *ud;
    atomic_bool lost;
    atomic_ullong failures, training_failures, losses;
    atomic_ullong asked; /* of the driver until the daemon had started */
    pthread_mutex_t lock;
    /* Under the lock. */
    bool degraded;
    char why[DEVICE_WHY_BYTES];
    int64_t failed_us[DEVICE_FAILURES]; /* of the latest ones, in turns */
    uint32_t failed_len;                /* that have been */
};

/* ---- the choice ------------------------------------------------------------------------------ */

/* 0 and the number, or -EINVAL. */
static int ordinal_of(const char *text, uint32_t *ret_ordinal)
{
    uint32_t n = 0;

    if (*text == '\0' || strlen(text) > 2)
        return -EINVAL;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return -EINVAL;
        n = 10 * n + (uint32_t)(*text - '0');
    }
    if (n > ORDINAL_MAX)
        return -EINVAL;
    *ret_ordinal = n;
    return 0;
}

/* The path and number of "plugin:PATH[:N]". -EINVAL: it is none. */
static int plugin_of(const char *choice, char path[PATH_BYTES], uint32_t *ret_ordinal)
{
    static const char head[] = "plugin:";
    char *colon;

    if (strncmp(choice, head, sizeof head - 1) != 0 || strlen(choice) >= PATH_BYTES)
        return -EINVAL;
    memcpy(path, choice + sizeof head - 1, strlen(choice) - sizeof head + 2);
    colon = strrchr(path, ':');
    *ret_ordinal = 0;
    if (colon != NULL && ordinal_of(colon + 1, ret_ordinal) == 0)
        *colon = '\0';
    return *path != '\0' ? 0 : -EINVAL;
}

int device_choice_check(const char *choice)
{
    char path[PATH_BYTES];
    uint32_t ordinal;

    if (strcmp(choice, "auto") == 0 || strcmp(choice, "cpu") == 0)
        return 0;
    if (strncmp(choice, "cuda:", 5) == 0)
        return ordinal_of(choice + 5, &ordinal);
    return plugin_of(choice, path, &ordinal);
}

/* ---- opening --------------------------------------------------------------------------------- */

/* The GPU's backend stands beside the program, or where `make install` puts it. */
static int find_cuda(char path[PATH_BYTES])
{
    static const char *const places[] = {"learnd-cuda.so", "../lib/learnd/learnd-cuda.so"};
    ssize_t len = readlink("/proc/self/exe", path, PATH_BYTES - 64);
    char *slash;

    if (len <= 0)
        return -ENOENT;
    path[len] = '\0';
    slash = strrchr(path, '/');
    if (slash == NULL)
        return -ENOENT;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(slash + 1, 64, "%s", places[i]);
        if (access(path, F_OK) == 0)
            return 0;
    }
    return -ENOENT;
}

static int load(const char *choice, char *why, size_t why_bytes, const struct backend **ret_backend)
{
    char path[PATH_BYTES];
    uint32_t ordinal = 0;

    if (plugin_of(choice, path, &ordinal) == 0)
        return backend_load(path, ordinal, why, why_bytes, ret_backend);
    if (strcmp(choice, "auto") != 0)
        (void)ordinal_of(choice + strlen("cuda:"), &ordinal);
    if (find_cuda(path) == 0)
        return backend_load(path, ordinal, why, why_bytes, ret_backend);
    snprintf(why, why_bytes,
             "there is no learnd-cuda.so beside the program or in ../lib/learnd (make CUDA=1)");
    return -ENOENT;
}

static void tell(const struct device *d, const char *code, const char *text)
{
    if (d->tell != NULL)
        d->tell(d->ud, code, text);
}

int device_open(const char *choice, device_tell_fn *tell_fn, void *ud, struct device **ret_device)
{
    struct device *d = calloc(1, sizeof *d);
    char why[256] = "", text[DEVICE_WHY_BYTES];

    if (d == NULL)
        return -ENOMEM;
    d->tell = tell_fn;
    d->ud = ud;
    d->backend = backend_cpu();
    pthread_mutex_init(&d->lock, NULL);
    if (strcmp(choice, "cpu") != 0 && load(choice, why, sizeof why, &d->backend) != 0) {
        d->degraded = strcmp(choice, "auto") != 0;
        snprintf(d->why, sizeof d->why, "%s", why);
        snprintf(text, sizeof text, "the CPU is used: %s", why);
        tell(d, "device_unavailable", text);
    }
    *ret_device = d;
    return 0;
}

void device_close(struct device *d)
{
    if (d == NULL)
        return;
    pthread_mutex_destroy(&d->lock);
    free(d);
}

/* ---- use ------------------------------------------------------------------------------------- */

bool device_lost(const struct device *d)
{
    return d != NULL && atomic_load(&d->lost);
}

const struct backend *device_backend(const struct device *d)
{
    return d == NULL || device_lost(d) ? backend_cpu() : d->backend;
}

void device_lose(struct device *d, const char *why)
{
    char text[DEVICE_WHY_BYTES];

    if (d == NULL || d->backend == backend_cpu())
        return; /* there is nowhere to go back to */
    pthread_mutex_lock(&d->lock);
    if (atomic_load(&d->lost)) {
        pthread_mutex_unlock(&d->lock);
        return;
    }
    d->degraded = true;
    snprintf(d->why, sizeof d->why, "%s is not used any more: %.256s", d->backend->name, why);
    memcpy(text, d->why, sizeof text);
    atomic_store(&d->lost, true);
    pthread_mutex_unlock(&d->lock);
    atomic_fetch_add(&d->losses, 1);
    tell(d, "device_lost", text);
}

static const char *reason(int rc)
{
    return rc == -ENODEV   ? "the device is gone"
           : rc == -EIO    ? "an operation failed"
           : rc == -ENOMEM ? "out of memory"
                           : strerror(-rc);
}

/* Keeps a failure's time. True: the last DEVICE_FAILURES are too near to each other. */
static bool too_often(struct device *d, int64_t now_us)
{
    bool often;

    pthread_mutex_lock(&d->lock);
    d->failed_us[d->failed_len++ % DEVICE_FAILURES] = now_us;
    often = d->failed_len >= DEVICE_FAILURES &&
            now_us - d->failed_us[d->failed_len % DEVICE_FAILURES] < DEVICE_FAILURES_US;
    pthread_mutex_unlock(&d->lock);
    return often;
}

void device_failed(struct device *d, int rc, int64_t now_us)
{
    char text[DEVICE_WHY_BYTES];

    if (d == NULL || device_lost(d))
        return;
    atomic_fetch_add(&d->failures, 1);
    snprintf(text, sizeof text, "%s: %s", d->backend->name, reason(rc));
    tell(d, "device_failed", text);
    if (rc == -ENODEV)
        device_lose(d, reason(rc));
    else if (too_often(d, now_us))
        device_lose(d, "too many batches in a minute failed");
}

void device_training_failed(struct device *d, int rc)
{
    char text[DEVICE_WHY_BYTES];

    if (d == NULL)
        return;
    atomic_fetch_add(&d->training_failures, 1);
    snprintf(text, sizeof text, "%s, while training: %s", d->backend->name, reason(rc));
    tell(d, "device_training_failed", text);
    if (rc == -ENODEV)
        device_lose(d, reason(rc));
}

void device_trains_on_cpu(struct device *d, const char *why)
{
    if (d != NULL)
        tell(d, "device_training_on_cpu", why);
}

void device_started(struct device *d)
{
    struct kmemory memory;

    if (d == NULL)
        return;
    d->backend->memory(&memory);
    atomic_store(&d->asked, memory.asked);
}

void device_read(struct device *d, struct device_report *ret_report)
{
    struct device_report r = {.name = "cpu"};
    const struct backend *b = device_backend(d);
    struct kmemory memory;

    if (d != NULL) {
        r.name = b->name;
        r.failures = atomic_load(&d->failures);
        r.training_failures = atomic_load(&d->training_failures);
        r.losses = atomic_load(&d->losses);
        pthread_mutex_lock(&d->lock);
        r.degraded = d->degraded;
        memcpy(r.why, d->why, sizeof r.why);
        pthread_mutex_unlock(&d->lock);
        b->memory(&memory);
        r.memory_used = memory.taken;
        r.memory_total = memory.total;
        r.memory_asked = memory.asked - (b == d->backend ? atomic_load(&d->asked) : 0);
        r.active = b->activity(&r.busy_percent, &r.clock_mhz) == 0;
    }
    *ret_report = r;
}
