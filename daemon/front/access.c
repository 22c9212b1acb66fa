/* access.c -- see access.h. At most LIMIT_KEYS keys in one array; a look-up walks the first eight
 * bytes of their hashes (0.3 us for 1,024), which beside a forward pass is nothing, and then
 * compares the whole in constant time. What the walk's time tells is bytes of a hash, from which
 * nobody comes to a key.
 *
 * The rate is a bucket as in daemon/serve/rate.c: one number, the time at which it is full again.
 * It holds what a second refills, and never less than one request.
 */
#include "daemon/front/access.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/limits.h"

enum { FILE_KEY_MIN = 32, FILE_KEY_MAX = 256 };

struct entry {
    uint8_t sha256[STORE_HASH_BYTES];
    enum role role;
    char name[STORE_NAME_BYTES_MAX + 1];
    int64_t expires_us;         /* 0: never */
    int64_t step_us, bucket_us; /* a request's share, and what the bucket holds; 0: no limit */
    int64_t full_us;
    struct access_use use; /* its key is the entry's id */
};

struct access {
    struct access_settings settings;
    char *file; /* NULL: none */
    pthread_mutex_t lock;
    bool has_file_key;
    uint8_t file_sha256[STORE_HASH_BYTES];
    uint32_t len;
    uint64_t heads[LIMIT_KEYS]; /* of the hashes, in the order of entries */
    struct entry entries[LIMIT_KEYS];
};

static uint64_t head_of(const uint8_t sha256[STORE_HASH_BYTES])
{
    uint64_t head;

    memcpy(&head, sha256, sizeof head);
    return head;
}

static struct entry *find(struct access *a, int64_t id)
{
    for (uint32_t i = 0; i < a->len; i++)
        if (a->entries[i].use.key == id)
            return &a->entries[i];
    return NULL;
}

/* ---- the file -------------------------------------------------------------------------------- */

/* The one line, without its end. */
static int check_line(const char *path, const char *line, size_t len, char *why, size_t why_bytes)
{
    if (len < FILE_KEY_MIN || len > FILE_KEY_MAX) {
        snprintf(why, why_bytes, "admin-key-file %.200s: expected one line of %d to %d characters",
                 path, FILE_KEY_MIN, FILE_KEY_MAX);
        return -EINVAL;
    }
    for (size_t i = 0; i < len; i++) {
        if (line[i] <= ' ' || line[i] > '~') {
            snprintf(why, why_bytes,
                     "admin-key-file %.200s: a key has no spaces and only ASCII characters", path);
            return -EINVAL;
        }
    }
    return 0;
}

static int read_key_file(const char *path, char *why, size_t why_bytes,
                         uint8_t ret_sha256[STORE_HASH_BYTES])
{
    char line[FILE_KEY_MAX + 2];
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc;
    struct stat st;
    ssize_t len = 0;

    rc = fd < 0 || fstat(fd, &st) != 0 ? -errno : 0;
    if (rc == 0 && (!S_ISREG(st.st_mode) || (st.st_mode & (S_IRWXO | S_IWGRP)) != 0)) {
        snprintf(why, why_bytes,
                 "admin-key-file %.200s: it must be a file that no others can read, nor its group "
                 "write (chmod 600)",
                 path);
        close(fd);
        return -EPERM;
    }
    if (rc == 0 && (len = read(fd, line, sizeof line)) < 0)
        rc = -errno;
    if (fd >= 0)
        close(fd);
    if (rc != 0) {
        snprintf(why, why_bytes, "admin-key-file %.200s: %s", path, strerror(-rc));
        return rc;
    }
    if (len > 0 && line[len - 1] == '\n')
        len--;
    rc = check_line(path, line, (size_t)len, why, why_bytes);
    if (rc == 0)
        store_sha256(line, (size_t)len, ret_sha256);
    explicit_bzero(line, sizeof line);
    return rc;
}

int access_reload(struct access *a, char *why, size_t why_bytes)
{
    uint8_t sha256[STORE_HASH_BYTES];
    int rc = a->file != NULL ? read_key_file(a->file, why, why_bytes, sha256) : -ENOENT;

    if (a->file == NULL)
        return 0;
    if (rc == 0) {
        pthread_mutex_lock(&a->lock);
        memcpy(a->file_sha256, sha256, sizeof sha256);
        a->has_file_key = true;
        pthread_mutex_unlock(&a->lock);
    }
    return rc;
}

/* ---- life ------------------------------------------------------------------------------------ */

static int take_row(void *ud, const struct store_key *row)
{
    return access_put(ud, row);
}

static int read_keys(struct access *a, struct store *store)
{
    int rc = store_begin(store);

    if (rc == 0) {
        rc = store_key_scan(store, 0, true, 0, take_row, a);
        store_rollback(store);
    }
    return rc;
}

int access_open(struct store *store, const struct access_settings *settings, const char *file,
                char *why, size_t why_bytes, struct access **ret_access)
{
    struct access *a = calloc(1, sizeof *a);
    int rc = 0;

    snprintf(why, why_bytes, "no memory for the table of keys");
    if (a == NULL)
        return -ENOMEM;
    pthread_mutex_init(&a->lock, NULL);
    a->settings = *settings;
    if (*file != '\0' && (a->file = strdup(file)) == NULL)
        rc = -ENOMEM;
    if (rc == 0)
        rc = access_reload(a, why, why_bytes);
    if (rc == 0 && store != NULL) {
        rc = read_keys(a, store);
        if (rc != 0)
            snprintf(why, why_bytes, "the keys cannot be read: %s", store_why(store));
    }
    if (rc != 0) {
        access_close(a);
        return rc;
    }
    *ret_access = a;
    return 0;
}

void access_close(struct access *a)
{
    if (a == NULL)
        return;
    pthread_mutex_destroy(&a->lock);
    free(a->file);
    free(a);
}

const struct access_settings *access_settings(const struct access *a)
{
    return &a->settings;
}

bool access_has_file(const struct access *a)
{
    return a->file != NULL;
}

bool access_keyed(struct access *a)
{
    bool keyed;

    pthread_mutex_lock(&a->lock);
    keyed = a->len > 0 || a->has_file_key;
    pthread_mutex_unlock(&a->lock);
    return keyed;
}

/* ---- checking -------------------------------------------------------------------------------- */

static int64_t spend(struct entry *e, int64_t now_us)
{
    int64_t full, wait;

    if (e->step_us == 0)
        return 0;
    full = (e->full_us > now_us ? e->full_us : now_us) + e->step_us;
    wait = full - now_us - e->bucket_us;
    if (wait > 0)
        return wait;
    e->full_us = full;
    return 0;
}

static enum access_verdict check_entry(struct entry *e, int64_t now_us, int64_t unix_us,
                                       struct access_who *who, int64_t *ret_wait_us)
{
    if (e->expires_us != 0 && e->expires_us <= unix_us)
        return ACCESS_EXPIRED;
    *who = (struct access_who){e->use.key, e->role};
    *ret_wait_us = spend(e, now_us);
    if (*ret_wait_us > 0)
        return ACCESS_LIMITED;
    e->use.used_us = unix_us;
    e->use.requests++;
    return ACCESS_OK;
}

enum access_verdict access_check(struct access *a, const char *key, size_t key_len, int64_t now_us,
                                 int64_t unix_us, struct access_who *ret_who, int64_t *ret_wait_us)
{
    enum access_verdict verdict = ACCESS_UNKNOWN;
    uint8_t sha256[STORE_HASH_BYTES];
    uint64_t head;

    store_sha256(key, key_len, sha256);
    head = head_of(sha256);
    pthread_mutex_lock(&a->lock);
    if (a->has_file_key && store_hash_same(a->file_sha256, sha256)) {
        *ret_who = (struct access_who){STORE_KEY_FILE, ROLE_ADMIN};
        verdict = ACCESS_OK;
    }
    for (uint32_t i = 0; i < a->len && verdict == ACCESS_UNKNOWN; i++)
        if (a->heads[i] == head && store_hash_same(a->entries[i].sha256, sha256))
            verdict = check_entry(&a->entries[i], now_us, unix_us, ret_who, ret_wait_us);
    pthread_mutex_unlock(&a->lock);
    return verdict;
}

bool access_stands(struct access *a, const struct access_who *who, int64_t unix_us)
{
    const struct entry *e;
    bool stands = true;

    pthread_mutex_lock(&a->lock);
    if (who->key > 0) {
        e = find(a, who->key);
        stands = e != NULL && (e->expires_us == 0 || e->expires_us > unix_us);
    }
    pthread_mutex_unlock(&a->lock);
    return stands;
}

void access_name(struct access *a, const struct access_who *who,
                 char ret_name[STORE_NAME_BYTES_MAX + 1])
{
    const struct entry *e;

    snprintf(ret_name, STORE_NAME_BYTES_MAX + 1, "%s",
             who->key == STORE_KEY_FILE ? "admin-key-file" : "");
    if (who->key <= 0)
        return;
    pthread_mutex_lock(&a->lock);
    e = find(a, who->key);
    if (e != NULL)
        memcpy(ret_name, e->name, sizeof e->name);
    pthread_mutex_unlock(&a->lock);
}

/* ---- changes --------------------------------------------------------------------------------- */

int access_put(struct access *a, const struct store_key *key)
{
    struct entry *e;
    int rc = -ENOSPC;

    pthread_mutex_lock(&a->lock);
    if (a->len < LIMIT_KEYS) {
        e = &a->entries[a->len];
        *e = (struct entry){.role = (enum role)api_role_of(key->role),
                            .expires_us = key->expires_us,
                            .use = {.key = key->id}};
        memcpy(e->sha256, key->sha256, sizeof e->sha256);
        memcpy(e->name, key->name, sizeof e->name);
        if (key->rate_per_s > 0) {
            e->step_us = (int64_t)(1e6 / key->rate_per_s);
            e->bucket_us = e->step_us > 1000000 ? e->step_us : 1000000;
        }
        a->heads[a->len++] = head_of(e->sha256);
        rc = 0;
    }
    pthread_mutex_unlock(&a->lock);
    return rc;
}

void access_drop(struct access *a, int64_t id)
{
    struct entry *e;

    pthread_mutex_lock(&a->lock);
    e = find(a, id);
    if (e != NULL) {
        a->len--;
        a->heads[e - a->entries] = a->heads[a->len];
        *e = a->entries[a->len];
    }
    pthread_mutex_unlock(&a->lock);
}

bool access_full(struct access *a)
{
    bool full;

    pthread_mutex_lock(&a->lock);
    full = a->len == LIMIT_KEYS;
    pthread_mutex_unlock(&a->lock);
    return full;
}

/* ---- use ------------------------------------------------------------------------------------- */

void access_corrections(struct access *a, const struct access_who *who, uint64_t corrections)
{
    struct entry *e;

    if (who->key <= 0 || corrections == 0)
        return;
    pthread_mutex_lock(&a->lock);
    e = find(a, who->key);
    if (e != NULL)
        e->use.corrections += corrections;
    pthread_mutex_unlock(&a->lock);
}

struct access_use access_use(struct access *a, int64_t key)
{
    struct access_use use = {.key = key};
    const struct entry *e;

    pthread_mutex_lock(&a->lock);
    e = find(a, key);
    if (e != NULL)
        use = e->use;
    pthread_mutex_unlock(&a->lock);
    return use;
}

uint32_t access_take_use(struct access *a, struct access_use *ret_rows)
{
    uint32_t len = 0;

    pthread_mutex_lock(&a->lock);
    for (uint32_t i = 0; i < a->len; i++) {
        struct access_use *use = &a->entries[i].use;

        if (use->used_us == 0)
            continue;
        ret_rows[len++] = *use;
        *use = (struct access_use){.key = use->key};
    }
    pthread_mutex_unlock(&a->lock);
    return len;
}

void access_give_use(struct access *a, const struct access_use *rows, uint32_t len)
{
    pthread_mutex_lock(&a->lock);
    for (uint32_t i = 0; i < len; i++) {
        struct entry *e = find(a, rows[i].key);

        if (e == NULL)
            continue;
        e->use.requests += rows[i].requests;
        e->use.corrections += rows[i].corrections;
        if (e->use.used_us < rows[i].used_us)
            e->use.used_us = rows[i].used_us;
    }
    pthread_mutex_unlock(&a->lock);
}
