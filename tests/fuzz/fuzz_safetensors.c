/* fuzz_safetensors.c -- any bytes as a .safetensors file.
 *
 * Beside what the sanitizers see, it holds: a refusal names the file and leaves nothing; of a file
 * that is read, every tensor that the header names is found, lies inside the file, overlaps no
 * other, and its shape has as many bytes as it has.
 *
 * Seeds: tests/fuzz/corpus/safetensors, made by hand from the table of test_safetensors.c.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "kernels/encoder/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool truth)
{
    if (!truth)
        abort();
}

static void check_tensor(const struct safetensor *t, const uint8_t *data, size_t size)
{
    const uint8_t *from;
    uint64_t values = 1, width;
    float *read;
    int rc;

    must(t != NULL);
    from = t->data;
    must(from >= data + 8 && from <= data + size && t->bytes <= (uint64_t)(data + size - from));
    must(t->dims_len <= 4 && strlen(t->dtype_name) < sizeof t->dtype_name);
    for (uint32_t i = 0; i < t->dims_len; i++)
        values *= t->dims[i];
    if (t->dtype == SAFETENSORS_OTHER) {
        must(safetensor_read(t, NULL) == -EINVAL);
        return;
    }
    width = t->dtype == SAFETENSORS_F32 ? 4 : 2;
    must(values * width == t->bytes);
    read = malloc(values * sizeof *read + (values == 0));
    if (read == NULL)
        return;
    rc = safetensor_read(t, read);
    must(rc == 0 || rc == -EDOM);
    free(read);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *f = NULL;
    char why[128] = "";
    uint64_t header_len;
    uint32_t seen = 0;
    const char *name;
    json_t *header, *entry;
    int rc = safetensors_parse("fuzz", data, size, why, sizeof why, &f);

    if (rc != 0) {
        must(rc == -EINVAL && f == NULL && strncmp(why, "fuzz: ", 6) == 0);
        must(strlen(why) > 6 && strlen(why) < sizeof why);
        return 0;
    }
    memcpy(&header_len, data, 8);
    header = json_loadb((const char *)data + 8, header_len, 0, NULL);
    json_object_foreach(header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        check_tensor(safetensors_find(f, name), data, size);
        seen++;
    }
    must(seen == safetensors_len(f));
    must(safetensors_find(f, "__metadata__") == NULL);
    json_decref(header);
    safetensors_close(f);
    return 0;
}
