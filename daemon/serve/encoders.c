/* encoders.c -- see encoders.h. Entries come and go under one mutex; opening and freeing weights is
 * done outside it. A reference is taken either under the mutex or from one that is held, so an
 * entry at zero found under the mutex stays at zero. Another mutex lets one thread at a time move
 * encoders to the CPU; the two are never held together.
 */
#include "daemon/serve/encoders.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096, SLOTS = 3 };

const char *const encoders_files[ENCODERS_FILES] = {
    "config.json",
    [ENCODERS_WEIGHTS] = "model.safetensors",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
};

struct entry {
    struct held_encoder held; /* first */
    struct entry *next;
    struct encoder *left; /* on a device that was lost meanwhile */
    char *folder;         /* as it was opened from */
};

struct encoders {
    pthread_mutex_t lock, moving;
    atomic_bool moved;
    struct encoders_settings settings;
    char *base, *state;
    struct entry *first; /* the base is the last one */
};

static void entry_free(struct entry *e)
{
    tokenizer_close(e->held.tokenizer);
    encoder_close(e->held.encoder);
    encoder_close(e->left);
    free(e->folder);
    free(e);
}

static int entry_open(const struct encoders_settings *s, const char *folder, int64_t number,
                      char *why, size_t why_bytes, struct entry **ret_entry)
{
    struct entry *e = calloc(1, sizeof *e);
    const struct encoder_info *info;
    struct encoder *encoder = NULL;
    int rc;

    if (e == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    rc = encoder_open(device_backend(s->device), folder, s->precision, why, why_bytes, &encoder);
    e->held.encoder = encoder;
    e->folder = rc == 0 ? strdup(folder) : NULL;
    if (rc == 0 && e->folder == NULL)
        rc = -ENOMEM;
    if (rc == 0)
        rc = tokenizer_open(folder, why, why_bytes, &e->held.tokenizer);
    if (rc != 0) {
        entry_free(e);
        return rc;
    }
    info = encoder_info(encoder);
    if (tokenizer_vocab_len(e->held.tokenizer) > info->vocab_len) {
        snprintf(why, why_bytes,
                 "%.400s: the tokenizer has %u ids, the encoder only %u: they do not belong "
                 "together",
                 folder, tokenizer_vocab_len(e->held.tokenizer), info->vocab_len);
        entry_free(e);
        return -EINVAL;
    }
    atomic_init(&e->held.refs, 1);
    e->held.number = number;
    e->held.dim = info->dim;
    e->held.tokens_max =
        s->tokens_max > 0 && s->tokens_max <= info->positions ? s->tokens_max : info->tokens_max;
    if (e->held.tokens_max > s->tokens_limit)
        e->held.tokens_max = s->tokens_limit;
    *ret_entry = e;
    return 0;
}

/* On a device weights come and go beside the base's: the one that is live, the one that was until
 * then and is watched, a candidate before its swap. */
static int room_take(const struct encoders *all, char *why, size_t why_bytes)
{
    const struct backend *backend = device_backend(all->settings.device);
    uint64_t bytes = SLOTS * encoder_info(all->first->held.encoder)->weights_bytes;
    int rc = backend->reserve(K_WEIGHTS, bytes, 0);

    if (rc != 0)
        snprintf(why, why_bytes,
                 "out of memory: %s has no %.1f MiB for three encoders beside the base, which "
                 "needs %.1f",
                 backend->name, (double)bytes / (1 << 20), (double)bytes / SLOTS / (1 << 20));
    return rc;
}

int encoders_open(const struct encoders_settings *settings, char *why, size_t why_bytes,
                  struct encoders **ret_encoders)
{
    struct encoders *all = calloc(1, sizeof *all);
    int rc = -ENOMEM;

    snprintf(why, why_bytes, "out of memory");
    if (all == NULL)
        return rc;
    all->settings = *settings;
    all->base = strdup(settings->base);
    all->state = strdup(settings->state);
    if (all->base != NULL && all->state != NULL)
        rc = entry_open(settings, all->base, 0, why, why_bytes, &all->first);
    if (rc == 0)
        rc = room_take(all, why, why_bytes);
    if (rc == 0)
        rc = -pthread_mutex_init(&all->lock, NULL);
    if (rc == 0)
        rc = -pthread_mutex_init(&all->moving, NULL);
    if (rc != 0) {
        if (all->first != NULL)
            entry_free(all->first);
        free(all->base);
        free(all->state);
        free(all);
        return rc;
    }
    all->first->held.all = all;
    *ret_encoders = all;
    return 0;
}

void encoders_close(struct encoders *all)
{
    if (all == NULL)
        return;
    while (all->first != NULL) {
        struct entry *e = all->first;

        all->first = e->next;
        entry_free(e);
    }
    pthread_mutex_destroy(&all->moving);
    pthread_mutex_destroy(&all->lock);
    free(all->base);
    free(all->state);
    free(all);
}

struct held_encoder *encoders_hold(struct held_encoder *held)
{
    atomic_fetch_add_explicit(&held->refs, 1, memory_order_relaxed);
    return held;
}

void encoders_put(struct held_encoder *held)
{
    if (held != NULL)
        atomic_fetch_sub_explicit(&held->refs, 1, memory_order_acq_rel);
}

/* Under the lock. One reference, or NULL. */
static struct held_encoder *find(struct encoders *all, int64_t number)
{
    for (struct entry *e = all->first; e != NULL; e = e->next)
        if (e->held.number == number)
            return encoders_hold(&e->held);
    return NULL;
}

struct held_encoder *encoders_base(struct encoders *all)
{
    struct held_encoder *held;

    pthread_mutex_lock(&all->lock);
    held = find(all, 0);
    pthread_mutex_unlock(&all->lock);
    return held;
}

int encoders_load(struct encoders *all, const char *folder, int64_t number, char *why,
                  size_t why_bytes, struct held_encoder **ret_held)
{
    struct held_encoder *there;
    struct entry *e;
    int rc = entry_open(&all->settings, folder, number, why, why_bytes, &e);

    if (rc != 0)
        return rc;
    e->held.all = all;
    pthread_mutex_lock(&all->lock);
    there = find(all, number);
    if (there == NULL) {
        e->next = all->first;
        all->first = e;
    }
    pthread_mutex_unlock(&all->lock);
    if (there != NULL) {
        encoders_put(there);
        entry_free(e);
        snprintf(why, why_bytes, "encoder %lld is in memory already", (long long)number);
        return -EEXIST;
    }
    *ret_held = &e->held;
    return 0;
}

int encoders_get(struct encoders *all, int64_t number, char *why, size_t why_bytes,
                 struct held_encoder **ret_held)
{
    char folder[PATH_BYTES];
    struct held_encoder *held;
    int rc;

    do { /* again, if another thread has loaded it meanwhile */
        pthread_mutex_lock(&all->lock);
        held = find(all, number);
        pthread_mutex_unlock(&all->lock);
        if (held != NULL) {
            *ret_held = held;
            return 0;
        }
        if (snprintf(folder, sizeof folder, "%s/encoders/%lld", all->state, (long long)number) >=
            (int)sizeof folder) {
            snprintf(why, why_bytes, "the path of the state folder is too long");
            return -EINVAL;
        }
        rc = encoders_load(all, folder, number, why, why_bytes, ret_held);
    } while (rc == -EEXIST);
    return rc;
}

/* ---- when the device is lost ----------------------------------------------------------------- */

struct device *encoders_device(const struct encoders *all)
{
    return all->settings.device;
}

static bool on_cpu(const struct encoder *e)
{
    return encoder_info(e)->backend == backend_cpu()->name;
}

/* Opens the folder on the CPU, if it still holds what is on the device. */
static int open_same(const struct encoders *all, const char *folder, const struct entry *e,
                     struct encoder **ret_encoder)
{
    uint64_t fingerprint = encoder_info(e->held.encoder)->fingerprint;
    struct encoder *encoder = NULL;
    char why[256];
    int rc =
        encoder_open(backend_cpu(), folder, all->settings.precision, why, sizeof why, &encoder);

    if (rc == 0 && encoder_info(encoder)->fingerprint != fingerprint) {
        encoder_close(encoder);
        return -ESTALE;
    }
    if (rc == 0)
        *ret_encoder = encoder;
    return rc;
}

/* A folder that was loaded as a candidate has moved into the state folder when it got its number.
 */
static int open_on_cpu(const struct encoders *all, const struct entry *e,
                       struct encoder **ret_encoder)
{
    char folder[PATH_BYTES];
    int rc = open_same(all, e->folder, e, ret_encoder);

    if (rc == 0 || e->held.number <= 0 ||
        snprintf(folder, sizeof folder, "%s/encoders/%lld", all->state,
                 (long long)e->held.number) >= (int)sizeof folder)
        return rc;
    return open_same(all, folder, e, ret_encoder);
}

int encoders_use(struct held_encoder *held, const struct encoder **ret_encoder)
{
    struct encoders *all = held->all;
    struct entry *e = (struct entry *)held;
    struct encoder *encoder = NULL;
    int rc = 0;

    if (!device_lost(all->settings.device) || on_cpu(held->encoder)) {
        *ret_encoder = held->encoder;
        return 0;
    }
    pthread_mutex_lock(&all->moving);
    if (!on_cpu(held->encoder))
        rc = open_on_cpu(all, e, &encoder);
    if (encoder != NULL) {
        e->left = held->encoder;
        held->encoder = encoder;
    }
    pthread_mutex_unlock(&all->moving);
    if (rc == 0)
        *ret_encoder = held->encoder;
    return rc;
}

/* One that is not on the CPU, with a reference: the first behind `skip` others. */
static struct held_encoder *find_left(struct encoders *all, uint32_t skip)
{
    struct held_encoder *found = NULL;

    pthread_mutex_lock(&all->lock);
    for (struct entry *e = all->first; e != NULL && found == NULL; e = e->next)
        if (!on_cpu(e->held.encoder) && skip-- == 0)
            found = encoders_hold(&e->held);
    pthread_mutex_unlock(&all->lock);
    return found;
}

void encoders_move(struct encoders *all)
{
    const struct encoder *unused;
    struct held_encoder *held;
    uint32_t stuck = 0; /* that could not be opened: each is tried again when it is asked for */

    if (atomic_exchange(&all->moved, true))
        return;
    while ((held = find_left(all, stuck)) != NULL) {
        stuck += encoders_use(held, &unused) != 0;
        encoders_put(held);
    }
}

uint32_t encoders_sweep(struct encoders *all)
{
    struct entry *gone = NULL;
    uint32_t left = 0;

    pthread_mutex_lock(&all->lock);
    for (struct entry **at = &all->first; *at != NULL;) {
        struct entry *e = *at;

        /* The base's own reference is never given back. */
        if (atomic_load_explicit(&e->held.refs, memory_order_acquire) > 0) {
            at = &e->next;
            left++;
            continue;
        }
        *at = e->next;
        e->next = gone;
        gone = e;
    }
    pthread_mutex_unlock(&all->lock);
    while (gone != NULL) {
        struct entry *e = gone;

        gone = e->next;
        entry_free(e);
    }
    return left;
}
