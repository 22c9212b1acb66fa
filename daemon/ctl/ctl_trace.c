/* ctl_trace.c -- is anything of a text left in a state folder? The proof of an erasure.
 *
 * Every byte of every file is searched, free pages of the database and its log too, for the text in
 * UTF-8 as it is, composed and decomposed, in lower case without marks, as JSON escapes it, and in
 * both orders of UTF-16; and images of heads for the id of an example of that text, beside which
 * its embedding would stand. (The journal keeps ids for ever: they are hashes, and events need a
 * name.) SQLite may lay a long text down in several places, so that one is looked for in pieces as
 * well.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_doctor.h"
#include "kernels/text/unicode_forms.h"

enum {
    WHOLE_BYTES = 400, /* up to so many a row stands in one page */
    PIECE_BYTES = 64,
    NEEDLES_MAX = 4096,
};

struct trace {
    struct ctl *ctl;
    struct store_needle needles[NEEDLES_MAX];
    void *owned[NEEDLES_MAX]; /* (len) what of the needles is freed */
    uint32_t len;
    uint64_t found;
};

/* bytes: taken, also on failure. The same bytes under another name are no second needle. */
static int add(struct trace *t, const char *name, void *bytes, size_t len, bool images_only)
{
    bool known = len == 0 || t->len == NEEDLES_MAX;

    if (bytes == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < t->len; i++)
        known |= t->needles[i].len == len && memcmp(t->needles[i].bytes, bytes, len) == 0;
    if (known) {
        free(bytes);
        return 0;
    }
    t->owned[t->len] = bytes;
    t->needles[t->len++] = (struct store_needle){bytes, len, name, images_only};
    return 0;
}

static void *copy(const void *bytes, size_t len)
{
    void *own = malloc(len + 1);

    if (own != NULL)
        memcpy(own, bytes, len);
    return own;
}

static int add_utf16(struct trace *t, const char *text, size_t len)
{
    char *little = malloc(4 * len + 4), *big = malloc(4 * len + 4);
    size_t n = 0;
    int rc;

    for (size_t i = 0; i < len && little != NULL && big != NULL; n += 2) {
        unsigned char c = (unsigned char)text[i];
        int more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
        uint32_t point = more == 0 ? c : c & (0x3fu >> more);

        for (i++; more > 0 && i < len; i++, more--)
            point = point << 6 | ((unsigned char)text[i] & 0x3f);
        if (point > 0xffff) {
            uint32_t high = 0xd800 + ((point - 0x10000) >> 10);

            little[n] = big[n + 1] = (char)high;
            little[n + 1] = big[n] = (char)(high >> 8);
            n += 2;
            point = 0xdc00 + ((point - 0x10000) & 0x3ff);
        }
        little[n] = big[n + 1] = (char)point;
        little[n + 1] = big[n] = (char)(point >> 8);
    }
    rc = add(t, "utf-16-le", little, n, false);
    return rc == 0 ? add(t, "utf-16-be", big, n, false) : (free(big), rc);
}

static int add_json(struct trace *t, const char *text, size_t len)
{
    struct api_buffer b = API_BUFFER_INIT;
    void *own = NULL;
    size_t n = 0;

    json_write_text(&b, text, len);
    if (b.rc == 0 && b.len > 2) { /* without its quotes */
        n = b.len - 2;
        own = copy(b.bytes + 1, n);
    }
    api_buffer_done(&b);
    return add(t, "json", own, n, false);
}

static int add_forms(struct trace *t, const char *text, size_t len)
{
    static const char *const names[UNICODE_FORMS] = {"composed", "decomposed", "plain"};
    int rc = add(t, "text", copy(text, len), len, false);

    for (int i = 0; i < UNICODE_FORMS && rc == 0; i++) {
        char *form;
        size_t form_len;

        rc = unicode_form(text, len, (enum unicode_form)i, &form, &form_len);
        if (rc == 0)
            rc = add(t, names[i], form, form_len, false);
    }
    if (rc == 0)
        rc = add_json(t, text, len);
    if (rc == 0)
        rc = add_utf16(t, text, len);
    for (size_t at = 0; len > WHOLE_BYTES && at + PIECE_BYTES <= len && rc == 0; at += PIECE_BYTES)
        rc = add(t, "piece", copy(text + at, PIECE_BYTES), PIECE_BYTES, false);
    return rc;
}

struct identifying {
    struct trace *trace;
    const char *text;
    size_t len;
};

/* As an image has it: two numbers of eight bytes, little endian. */
static int add_id(void *ud, const struct store_model *row)
{
    const struct identifying *i = ud;
    uint8_t id[STORE_ID_BYTES], *image = malloc(STORE_ID_BYTES);

    store_example_id(row->name, i->text, i->len, NULL, 0, id);
    for (int k = 0; k < 8 && image != NULL; k++) {
        image[k] = id[7 - k];
        image[8 + k] = id[15 - k];
    }
    return add(i->trace, "example", image, STORE_ID_BYTES, true);
}

static int add_ids(struct trace *t, const char *folder, const char *text, size_t len, char *why,
                   size_t why_bytes)
{
    struct identifying i = {t, text, len};
    struct store *store;
    int rc = store_open(folder, STORE_READER, why, why_bytes, &store);

    if (rc == 0) {
        rc = store_model_scan(store, add_id, &i);
        store_close(store);
    }
    return rc;
}

/* ---- what was found -------------------------------------------------------------------------- */

static int on_trace(void *ud, const char *path, const struct store_needle *needle, uint64_t offset)
{
    struct trace *t = ud;
    struct api_buffer out = API_BUFFER_INIT;

    t->found++;
    if (!t->ctl->options.json) {
        printf("found in %s at byte %llu (%s)\n", path, (unsigned long long)offset, needle->name);
        return 0;
    }
    json_open_object(&out);
    json_write_key(&out, "file");
    json_write_string(&out, path);
    json_write_key(&out, "offset");
    json_write_int(&out, (int64_t)offset);
    json_write_key(&out, "form");
    json_write_string(&out, needle->name);
    json_close_object(&out);
    return ctl_print_buffer(&out) == CTL_OK ? 0 : -ENOMEM;
}

static void summarize(const struct trace *t, uint64_t files, uint64_t bytes)
{
    struct api_buffer out = API_BUFFER_INIT;

    if (!t->ctl->options.json) {
        if (!t->ctl->options.quiet)
            printf("%llu traces in %llu files, %llu bytes, %u forms searched\n",
                   (unsigned long long)t->found, (unsigned long long)files,
                   (unsigned long long)bytes, t->len);
        return;
    }
    json_open_object(&out);
    json_write_key(&out, "traces");
    json_write_int(&out, (int64_t)t->found);
    json_write_key(&out, "files");
    json_write_int(&out, (int64_t)files);
    json_write_key(&out, "bytes");
    json_write_int(&out, (int64_t)bytes);
    json_close_object(&out);
    (void)ctl_print_buffer(&out);
}

enum ctl_exit ctl_trace(struct ctl *ctl, const char *text)
{
    char path[CTL_STATE_BYTES], why[512] = "no memory";
    const char *folder = ctl_state(ctl, path);
    struct trace *t = calloc(1, sizeof *t);
    uint64_t files = 0, bytes = 0;
    size_t len = strlen(text);
    int rc = t != NULL ? 0 : -ENOMEM;

    if (len < 4) {
        free(t);
        return ctl_misused(ctl, "a text of 4 bytes or more: a shorter one is found anywhere");
    }
    if (rc == 0) {
        t->ctl = ctl;
        rc = add_forms(t, text, len);
        if (rc == -EINVAL)
            snprintf(why, sizeof why, "the text is not UTF-8");
    }
    if (rc == 0)
        rc = add_ids(t, folder, text, len, why, sizeof why);
    if (rc == 0) {
        rc = store_trace(folder, t->needles, t->len, on_trace, t, &files, &bytes);
        if (rc != 0)
            snprintf(why, sizeof why, "%.200s: %s", folder, strerror(-rc));
    }
    if (rc == 0)
        summarize(t, files, bytes);
    else
        ctl_fail("file", "%s", why);
    rc = rc != 0 ? CTL_USAGE : t->found > 0 ? CTL_REFUSED : CTL_OK;
    for (uint32_t i = 0; t != NULL && i < t->len; i++)
        free(t->owned[i]);
    free(t);
    return (enum ctl_exit)rc;
}
