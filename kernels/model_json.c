/* model_json.c -- see model_json.h. Whole files are read at once: they are small, and read at start
 * only. */
#include "kernels/model_json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int model_json_parse(const char *name, const char *bytes, size_t bytes_len, char *why,
                     size_t why_bytes, json_t **ret_json)
{
    json_error_t error;
    json_t *json = json_loadb(bytes, bytes_len, JSON_REJECT_DUPLICATES, &error);

    if (json == NULL && (json_error_code(&error) == json_error_out_of_memory ||
                         error.text[0] == '\0')) { /* where jansson has no memory it has no words */
        snprintf(why, why_bytes, "%s: out of memory", name);
        return -ENOMEM;
    }
    if (json == NULL) {
        snprintf(why, why_bytes, "%s: not valid JSON at line %d column %d: %s", name, error.line,
                 error.column, error.text);
        return -EINVAL;
    }
    *ret_json = json;
    return 0;
}

int model_json_read(const char *folder, const char *name, size_t bytes_max, char *why,
                    size_t why_bytes, json_t **ret_json)
{
    char path[4096];
    char *bytes = NULL;
    size_t bytes_len = 0;
    int rc = 0;
    FILE *file;

    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) {
        snprintf(why, why_bytes, "%s: the path is too long", name);
        return -EINVAL;
    }
    file = fopen(path, "rb");
    if (file == NULL) {
        rc = errno == ENOENT || errno == ENOMEM ? -errno : -EINVAL;
        snprintf(why, why_bytes, "%s: %s", path, strerror(errno));
        return rc;
    }
    bytes = malloc(bytes_max + 1);
    if (bytes == NULL) {
        snprintf(why, why_bytes, "%s: out of memory", path);
        rc = -ENOMEM;
        goto out;
    }
    bytes_len = fread(bytes, 1, bytes_max + 1, file);
    if (ferror(file) || bytes_len > bytes_max) {
        snprintf(why, why_bytes, "%s: %s", path,
                 ferror(file) ? "cannot be read" : "larger than such a file may be");
        rc = -EINVAL;
        goto out;
    }
    rc = model_json_parse(path, bytes, bytes_len, why, why_bytes, ret_json);
out:
    free(bytes);
    fclose(file);
    return rc;
}
