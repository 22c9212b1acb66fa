/* carry.c -- an encoder's files, so that learnctl can carry it elsewhere: which there are, and
 * their bytes in pieces. Only the files that a Hugging Face encoder has, by a list: a name is
 * looked up in it, never walked to.
 *
 * On the reader's thread. Hashing the weights takes a tenth of a second there, once an export.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/front/errand.h"

struct carrying {
    struct errand errand; /* first */
    int64_t encoder;
    int name; /* in encoders_files */
    int64_t offset, bytes;
};

static int find_held(void *ud, const struct store_encoder *row)
{
    const struct carrying *c = ud;

    return row->id == c->encoder &&
           (strcmp(row->state, "base") == 0 || strcmp(row->state, "live") == 0 ||
            strcmp(row->state, "held") == 0);
}

/* The folder of the encoder, if the model holds it. */
static int folder_of(struct carrying *c, struct store *store, char path[STORE_PATH_BYTES])
{
    const struct server *server = c->errand.server;
    int rc = store_encoder_scan(store, c->errand.model, find_held, c);

    if (rc == 0)
        return api_problem_set(&c->errand.problem, 404, "version_not_held", "encoder",
                               "the model does not hold this encoder (any more)");
    if (rc < 0)
        return rc;
    if (c->encoder != 0)
        return store_encoder_folder(server->settings.state, c->encoder, path);
    snprintf(path, STORE_PATH_BYTES, "%s", server->settings.encoder);
    return 0;
}

/* A descriptor of one of its files, and how long it is. -ENOENT: it has none. */
static int open_file(const char *folder, int name, int64_t *ret_bytes)
{
    char path[STORE_PATH_BYTES + 64];
    struct stat st;
    int fd;

    snprintf(path, sizeof path, "%s/%s", folder, encoders_files[name]);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -ENOENT;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return -ENOENT;
    }
    *ret_bytes = st.st_size;
    return fd;
}

static int act_files(struct errand *e, struct store *store)
{
    struct carrying *c = (struct carrying *)e;
    char folder[STORE_PATH_BYTES];
    int rc = folder_of(c, store, folder);

    if (rc != 0)
        return rc;
    api_files_begin(&e->body, c->encoder);
    for (int i = 0; i < ENCODERS_FILES && rc == 0; i++) {
        uint8_t sha256[STORE_HASH_BYTES];
        int64_t bytes;
        int fd = open_file(folder, i, &bytes);

        if (fd < 0)
            continue;
        rc = store_sha256_file(fd, (size_t)bytes, sha256);
        if (rc == 0)
            api_write_file(&e->body, encoders_files[i], bytes, sha256);
        close(fd);
    }
    api_files_end(&e->body);
    return rc;
}

static int read_piece(struct carrying *c, int fd, int64_t file_bytes)
{
    struct errand *e = &c->errand;
    int64_t left = file_bytes - c->offset;
    size_t len = (size_t)(left < c->bytes ? left : c->bytes), done = 0;
    char *piece;

    if (left < 0)
        return api_problem_set(&e->problem, 422, "out_of_range", "offset",
                               "the file has only %lld bytes", (long long)file_bytes);
    piece = malloc(len + 1);
    if (piece == NULL)
        return -ENOMEM;
    while (done < len) {
        ssize_t n = pread(fd, piece + done, len - done, (off_t)(c->offset + (int64_t)done));

        if (n <= 0) {
            free(piece);
            return -EIO;
        }
        done += (size_t)n;
    }
    api_buffer_add(&e->body, piece, len);
    free(piece);
    e->type = "application/octet-stream";
    return 0;
}

static int act_piece(struct errand *e, struct store *store)
{
    struct carrying *c = (struct carrying *)e;
    char folder[STORE_PATH_BYTES];
    int64_t bytes;
    int fd, rc = folder_of(c, store, folder);

    if (rc != 0)
        return rc;
    fd = open_file(folder, c->name, &bytes);
    if (fd < 0)
        return api_problem_set(&e->problem, 404, "unknown_file", "",
                               "this encoder has no such file");
    rc = read_piece(c, fd, bytes);
    close(fd);
    return rc;
}

/* Reads a number of the query. False after an answer; the errand is freed then. */
static bool read_number(struct carrying *c, struct exchange *x, const char *name, int64_t min,
                        int64_t max, int64_t fallback, int64_t *ret_number)
{
    char text[32];
    const char *given;

    if (exchange_query(x, name, text, sizeof text, &given) != 0) {
        errand_free(&c->errand);
        return false;
    }
    if (api_number_parse(name, given, given != NULL ? strlen(given) : 0, min, max, fallback,
                         ret_number, &c->errand.problem) == 0)
        return true;
    errand_refuse(&c->errand, x);
    return false;
}

/* About ?encoder of the model, or the one that is live. NULL after an answer. */
static struct carrying *carrying_new(struct exchange *x,
                                     int (*act)(struct errand *, struct store *))
{
    struct carrying *c = errand_new(x, sizeof *c, exchange_param(x, 0), act);

    if (c == NULL)
        return NULL;
    if (c->errand.vectors) {
        api_problem_set(&c->errand.problem, 422, "no_encoder", "",
                        "a model of encoder none has no files");
        errand_refuse(&c->errand, x);
        return NULL;
    }
    return read_number(c, x, "encoder", 0, 1000000000000000, c->errand.live_encoder, &c->encoder)
               ? c
               : NULL;
}

void handle_encoder(struct exchange *x)
{
    struct carrying *c = carrying_new(x, act_files);

    if (c != NULL)
        errand_read(&c->errand, x);
}

void handle_encoder_file(struct exchange *x)
{
    const char *name = exchange_param(x, 1);
    struct carrying *c = carrying_new(x, act_piece);

    if (c == NULL || !read_number(c, x, "offset", 0, 1000000000000000, 0, &c->offset) ||
        !read_number(c, x, "bytes", 1, API_PIECE_BYTES_MAX, API_PIECE_BYTES_MAX, &c->bytes))
        return;
    while (c->name < ENCODERS_FILES && strcmp(encoders_files[c->name], name) != 0)
        c->name++;
    if (c->name < ENCODERS_FILES) {
        errand_read(&c->errand, x);
        return;
    }
    api_problem_set(&c->errand.problem, 404, "unknown_file", "", "this encoder has no such file");
    errand_refuse(&c->errand, x);
}
