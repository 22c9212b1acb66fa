/* fake_ctx.h -- the fake device's context and matrices, and the arguments of its operations.
 * Private to tests/device.
 *
 * An operation runs at once on the CPU. What it writes for the host to read (a pool's vectors, a
 * text's losses) is laid aside and comes to its place only with a sync that succeeds; after one
 * that fails something plausible and wrong stands there. So host code that reads too early, or does
 * not look at what sync said, has wrong answers here as it would have on a real device.
 */
#ifndef LEARND_FAKE_CTX_H
#define LEARND_FAKE_CTX_H

#include "kernels/backend_training.h"
#include "tests/device/fake_memory.h"

struct fake_output {
    void *to, *laid;
    size_t bytes;
};

enum { FAKE_OUTPUTS = 8 };

struct kctx {
    struct kctx *cpu;
    enum kpriority priority;
    int error;
    bool dead;
    size_t scratch_bytes; /* of a run */
    struct fake_output outputs[FAKE_OUTPUTS];
    uint32_t outputs_len;
};

struct kmat {
    struct kmat *cpu;
    size_t bytes;
};

struct kmat_train {
    struct kmat_train *cpu;
    size_t bytes;
};

/* Memory for what the host is to find at `to` after the next sync. */
void *fake_output(struct kctx *k, const char *what, void *to, size_t bytes);

static inline struct kview fake_view(const char *what, struct kview view)
{
    return (struct kview){fake_device_at(what, view.data, false), view.dtype};
}

#define DEV(data) fake_device_at(#data, data, false)
#define DEV_OR_NULL(data) fake_device_at(#data, data, true)
#define SHARED(data) fake_shared_at(#data, data, false)
#define SHARED_OR_NULL(data) fake_shared_at(#data, data, true)
#define VIEW(view) fake_view(#view, view)

extern const struct backend_training fake_training;

#endif
