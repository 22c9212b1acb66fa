/* encoders.h -- the encoders in memory, by number, each with the tokenizer that belongs to it.
 *
 * Number 0 is the base, the folder that --encoder names; every other one stands in the state folder
 * (encoders/<number>/), made by a run or an import. A model's snapshots hold the encoder they
 * answer with, so several versions are in memory while one takes over from the other.
 *
 * Giving a reference back costs nothing: what nobody holds any more stays in memory until
 * encoders_sweep, which the learner and the trainer call, so that no lane ever frees weights. The
 * base is never freed before encoders_close.
 *
 * Encoders live on a device (device.h). When it is lost each is opened again on the CPU, from its
 * folder; what it had on the device stays until it is freed as a whole, since a lane may still be
 * in a forward with it.
 *
 * Threads: any.
 */
#ifndef LEARND_ENCODERS_H
#define LEARND_ENCODERS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/serve/device.h"
#include "kernels/encoder/encoder.h"
#include "kernels/text/tokenizer.h"

struct encoders;

/* What an encoder's folder holds, as Hugging Face writes it; ours has no other file. The first two
 * are always there. */
enum { ENCODERS_FILES = 10, ENCODERS_WEIGHTS = 1 };
extern const char *const encoders_files[ENCODERS_FILES];

struct held_encoder {
    atomic_uint refs; /* encoders.c only */
    int64_t number;
    struct encoders *all;
    _Atomic(struct encoder *) encoder; /* to ask about; to compute with: encoders_use */
    struct tokenizer *tokenizer;
    uint32_t dim;        /* C */
    uint32_t tokens_max; /* of one text */
};

struct encoders_settings {
    struct device *device; /* NULL: the CPU */
    const char *base;      /* folder of number 0 */
    const char *state;     /* folder that holds encoders/ */
    enum encoder_precision precision;
    uint32_t tokens_max; /* of one text; 0: as each encoder says. Never more than tokens_limit */
    uint32_t tokens_limit;
};

/* Opens the base, and asks the device for room for three beside it: live, watched or draining, and
 * a candidate. 0 or as encoder_open; `why` says what. Settings are copied. */
int encoders_open(const struct encoders_settings *settings, char *why, size_t why_bytes,
                  struct encoders **ret_encoders);
/* Every reference has been given back. NULL is fine. */
void encoders_close(struct encoders *encoders);

/* One reference; the base is there for as long as `encoders`. */
struct held_encoder *encoders_base(struct encoders *encoders);
/* One reference to a number's encoder, loaded if it is not in memory (0.1-1 s). 0, -ENOENT,
 * -ENOMEM, -EINVAL: `why` says what. */
int encoders_get(struct encoders *encoders, int64_t number, char *why, size_t why_bytes,
                 struct held_encoder **ret_held);
/* Loads a folder as a number that is not in memory yet, and is not in the state folder either: a
 * candidate before it is installed. Errors as encoders_get; -EEXIST. */
int encoders_load(struct encoders *encoders, const char *folder, int64_t number, char *why,
                  size_t why_bytes, struct held_encoder **ret_held);
struct held_encoder *encoders_hold(struct held_encoder *held); /* one more reference */
void encoders_put(struct held_encoder *held);                  /* NULL is fine */
/* What to compute with now; the caller holds it, and asks for every batch. Where the device is lost
 * it is on the CPU (the first call opens it there, 0.1-1 s). 0 or as encoder_open; -ESTALE: its
 * folder holds other weights now. */
int encoders_use(struct held_encoder *held, const struct encoder **ret_encoder);
/* The device is lost: opens on the CPU whatever is in memory, once. */
void encoders_move(struct encoders *encoders);
struct device *encoders_device(const struct encoders *encoders); /* NULL: the CPU */
/* Frees those that nobody holds. Returns how many are left in memory. */
uint32_t encoders_sweep(struct encoders *encoders);

#endif
