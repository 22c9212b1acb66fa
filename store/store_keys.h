/* store_keys.h -- keys, and the trail of who changed what with them. Part of store.h, which brings
 * it along.
 *
 * A key itself is never here, only its SHA-256: it is 256 random bits, so nothing slower is needed
 * to keep it from being guessed. A row is never taken away, only revoked, so that the trail can
 * name it for ever. An act's row holds names and ids, never a text.
 */
#ifndef LEARND_STORE_KEYS_H
#define LEARND_STORE_KEYS_H

#include "store/store.h"

/* Who acts, where no key does. */
enum { STORE_KEY_NONE = 0, STORE_KEY_FILE = -1 };

struct store_key {
    int64_t id;
    char name[STORE_NAME_BYTES_MAX + 1];
    char role[16];     /* "predict", "annotate", "admin" */
    double rate_per_s; /* requests; 0: any number */
    int64_t created_us;
    int64_t expires_us, revoked_us, used_us; /* 0: never, not, not yet */
    int64_t requests, corrections;           /* up to used_us */
    uint8_t sha256[STORE_HASH_BYTES];
};
typedef int store_key_fn(void *ud, const struct store_key *row);

/* name, role, rate, times and sha256 of *key. -EEXIST: a key that was not revoked has this name. */
int store_key_add(struct store *store, const struct store_key *key, int64_t *ret_id);
/* -ENOENT: no such key. -EALREADY: it was revoked before. */
int store_key_revoke(struct store *store, int64_t id, int64_t now_us);
int store_key_get(struct store *store, int64_t id, struct store_key *ret_key);
/* By id, those behind `after`; standing: without those that were revoked. limit 0: all. */
int store_key_scan(struct store *store, int64_t after, bool standing, uint32_t limit,
                   store_key_fn *fn, void *ud);
/* Not revoked, and of them admins that never expire. */
int store_key_count(struct store *store, uint32_t *ret_keys, uint32_t *ret_admins);
/* Adds to its counts. A key that is gone is none of it. */
int store_key_used(struct store *store, int64_t id, int64_t used_us, uint64_t requests,
                   uint64_t corrections);
/* Do two hashes say the same? In a time that does not tell where they differ. */
bool store_hash_same(const uint8_t a[STORE_HASH_BYTES], const uint8_t b[STORE_HASH_BYTES]);

/* ---- the trail ------------------------------------------------------------------------------- */

enum { STORE_ACT_BYTES_MAX = 400 }; /* of an object; longer ones are cut between characters */

struct store_act {
    int64_t number; /* given by store_act_add */
    int64_t t_us;
    int64_t key;         /* STORE_KEY_NONE: the machine's own user, or no keys are in use */
    int64_t peer;        /* uid behind a unix socket; -1: unknown */
    const char *action;  /* "model_create", "label_merge", .. */
    const char *object;  /* what it was done to: names and ids */
    const char *request; /* its id */
    const char *address; /* of the client; "unix" */
    const char *name;    /* of the key, "" without; only when read */
};
typedef int store_act_fn(void *ud, const struct store_act *row);

/* In the transaction of what was done. */
int store_act_add(struct store *store, const struct store_act *act);

struct store_act_filter {
    int64_t before_number, before_us; /* 0: no such bound */
    const int64_t *key;               /* NULL: any */
    const char *action;               /* NULL: any */
    uint32_t limit;
};
/* Newest first. */
int store_act_scan(struct store *store, const struct store_act_filter *filter, store_act_fn *fn,
                   void *ud);

#endif
