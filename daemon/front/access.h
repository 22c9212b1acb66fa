/* access.h -- who may come in: the keys that stand, in memory, and what settings say about it.
 *
 * The store has the truth; this is its copy for the loops, so that no request waits for it. A
 * change of keys is told here by the keeper's thread after its commit, before it is answered. Only
 * hashes are held: a key that comes with a request is hashed and looked up.
 *
 * Keys are in use (access_keyed) from the first key that stands, expired or not, or with an
 * admin-key-file. Until then whoever reaches the loopback or the unix socket is an admin.
 *
 * Threads: any, under one short lock.
 */
#ifndef LEARND_ACCESS_H
#define LEARND_ACCESS_H

#include "daemon/front/peers.h"
#include "daemon/front/router.h"
#include "store/store.h"

struct access;

/* Who asks, as one exchange carries it. */
struct access_who {
    int64_t key; /* or STORE_KEY_NONE, STORE_KEY_FILE */
    enum role role;
};

struct access_settings {
    struct networks proxies; /* whose X-Forwarded-For is believed */
    struct origins origins;  /* pages that may call from a browser */
    bool metrics_open;
};

/* Reads the keys that stand from any connection of the store (NULL: there are none), and the file
 * ("": none). 0 or -errno with why. */
int access_open(struct store *store, const struct access_settings *settings, const char *file,
                char *why, size_t why_bytes, struct access **ret_access);
void access_close(struct access *access); /* NULL is fine */
const struct access_settings *access_settings(const struct access *access);

/* Reads the file again. On failure the key that was read before stays. 0 or -errno with why. */
int access_reload(struct access *access, char *why, size_t why_bytes);
/* Is there a file that can open the door when every key is gone? */
bool access_has_file(const struct access *access);
bool access_keyed(struct access *access);

enum access_verdict { ACCESS_OK, ACCESS_UNKNOWN, ACCESS_EXPIRED, ACCESS_LIMITED };

/* Whose key is this? One that may come in has spent one request of its rate. LIMITED: *ret_wait_us
 * until it may; who it is is known then too. */
enum access_verdict access_check(struct access *access, const char *key, size_t key_len,
                                 int64_t now_us, int64_t unix_us, struct access_who *ret_who,
                                 int64_t *ret_wait_us);
/* Does it still stand? For what goes on without asking again. */
bool access_stands(struct access *access, const struct access_who *who, int64_t unix_us);

/* Of the keeper's thread. put: -ENOSPC, LIMIT_KEYS stand already. */
int access_put(struct access *access, const struct store_key *key);
void access_drop(struct access *access, int64_t id);
bool access_full(struct access *access);

/* A key's name, "" for one that is none. */
void access_name(struct access *access, const struct access_who *who,
                 char ret_name[STORE_NAME_BYTES_MAX + 1]);

/* ---- use: counted here, written down now and then -------------------------------------------- */

struct access_use {
    int64_t key, used_us;
    uint64_t requests, corrections;
};
void access_corrections(struct access *access, const struct access_who *who, uint64_t corrections);
/* What is not written down yet of one key. */
struct access_use access_use(struct access *access, int64_t key);
/* Takes it of all keys: (LIMIT_KEYS) rows; returns how many. Give back what could not be written.
 */
uint32_t access_take_use(struct access *access, struct access_use *ret_rows);
void access_give_use(struct access *access, const struct access_use *rows, uint32_t len);

#endif
