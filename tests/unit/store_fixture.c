/* store_fixture.c -- see store_fixture.h. */
#include "tests/unit/store_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

void folder_make(char ret_folder[FOLDER_BYTES])
{
    const char *tmp = getenv("TMPDIR");

    if (tmp == NULL)
        tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(ret_folder, FOLDER_BYTES, "%s/learnd-test-XXXXXX", tmp);
    assert_non_null(mkdtemp(ret_folder));
}

void folder_remove(const char *folder)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        char path[FOLDER_BYTES + 260];

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_type == DT_DIR)
            folder_remove(path);
        else
            assert_int_equal(remove(path), 0);
    }
    closedir(dir);
    assert_int_equal(rmdir(folder), 0);
}

char *file_read(const char *folder, const char *name, size_t *ret_len)
{
    char path[FOLDER_BYTES + 128], *bytes;
    FILE *file;
    long len;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "rb");
    if (file == NULL)
        return NULL;
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    len = ftell(file);
    assert_true(len >= 0);
    rewind(file);
    bytes = malloc((size_t)len + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, (size_t)len, file), len);
    fclose(file);
    *ret_len = (size_t)len;
    return bytes;
}

void file_write(const char *folder, const char *name, const void *bytes, size_t len)
{
    char path[FOLDER_BYTES + 128];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

struct store *opened(const char *folder, enum store_mode mode)
{
    struct store *store = NULL;
    char why[256];
    int rc = store_open(folder, mode, why, sizeof why, &store);

    if (rc != 0)
        fail_msg("%s: %s", folder, why);
    return store;
}

int64_t model_added(struct store *store, const char *name)
{
    int64_t id = 0;

    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_model_add(store, name, "single", "{}", 1000, &id), 0);
    assert_int_equal(store_commit(store), 0);
    return id;
}

int64_t label_added(struct store *store, int64_t model, const char *name)
{
    int64_t id = 0, seq = 0;

    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_label_add(store, model, name, 1000, &id, &seq), 0);
    assert_int_equal(store_commit(store), 0);
    assert_true(seq > 0);
    return id;
}

int64_t label_of(struct store *store, int64_t model, const char *name)
{
    int64_t id = 0;

    assert_int_equal(store_label_find(store, model, name, &id), 0);
    return id;
}

struct store_feedback feedback_of(int64_t model, enum store_op op, const char *text,
                                  const char *label, const char *annotator)
{
    return (struct store_feedback){.model = model,
                                   .op = op,
                                   .text = text,
                                   .text_bytes = text != NULL ? strlen(text) : 0,
                                   .label = label,
                                   .create_label = true,
                                   .weight = 1.0,
                                   .annotator = annotator,
                                   .source = "test",
                                   .request_encoder = -1,
                                   .request_seq = -1,
                                   .now_us = 2000};
}

int teach(struct store *store, const struct store_feedback *feedback,
          struct store_receipt *ret_receipt, const char **ret_field)
{
    int rc = store_begin(store);

    if (rc == 0)
        rc = store_feedback_put(store, feedback, ret_receipt, ret_field);
    if (rc == 0)
        rc = store_commit(store);
    if (rc != 0)
        store_rollback(store);
    return rc;
}

struct store_receipt taught(struct store *store, const struct store_feedback *feedback)
{
    struct store_receipt receipt = {0};
    const char *field = "";
    int rc = teach(store, feedback, &receipt, &field);

    if (rc != 0)
        fail_msg("%s: %s (%s)", field, strerror(-rc), store_why(store));
    return receipt;
}

int keep_example(void *ud, const struct store_example *row)
{
    struct kept_example *k = ud;

    *k = (struct kept_example){.found = true,
                               .text_bytes = row->text_bytes,
                               .target_len = row->target_len,
                               .weight = row->weight,
                               .annotators = row->annotators,
                               .first_seq = row->first_seq,
                               .last_seq = row->last_seq,
                               .created_us = row->created_us,
                               .embedding_bytes = row->embedding_bytes};
    memcpy(k->id, row->id, sizeof k->id);
    snprintf(k->text, sizeof k->text, "%s", row->text);
    snprintf(k->pair, sizeof k->pair, "%s", row->pair != NULL ? row->pair : "(none)");
    snprintf(k->status, sizeof k->status, "%s", row->status);
    assert_true(row->target_len <= 8);
    for (uint32_t i = 0; i < row->target_len; i++)
        k->target[i] = row->target[i];
    if (row->embedding != NULL && row->embedding_bytes <= sizeof k->embedding)
        memcpy(k->embedding, row->embedding, row->embedding_bytes);
    return 0;
}

struct kept_example example_of(struct store *store, const uint8_t id[STORE_ID_BYTES],
                               int64_t encoder)
{
    struct kept_example k = {0};
    int rc = store_example_get(store, id, encoder, keep_example, &k);

    if (rc != -ENOENT)
        assert_int_equal(rc, 0);
    return k;
}
