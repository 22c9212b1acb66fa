/* api_vector.c -- a vector in a request: numbers in, unit length out. */
#include <errno.h>
#include <math.h>
#include <stddef.h>

#include "proto/api_read.h"

/* As far from unit length as rounding its numbers to fp16 can take a vector (2^-11 of each). One
 * that is nearer is left as it is, so that what was read from an answer comes back the same. */
#define UNIT_ROUNDING 5e-4

static void normalize(float *values, uint32_t len, double norm)
{
    if (fabs(norm - 1) <= UNIT_ROUNDING)
        return;
    for (uint32_t i = 0; i < len; i++)
        values[i] = (float)(values[i] / norm);
}

/* The numbers, divided by the largest of them, so that no square leaves the range of a double. */
static int read_values(struct api_reader *reader, const struct json_value *value, float *values,
                       uint32_t len)
{
    double largest = 0, sum = 0;

    for (uint32_t i = 0; i < len; i++) {
        const struct json_value *one = json_at(value, i);
        enum json_kind kind = json_kind(one);

        if (kind != JSON_KIND_INT && kind != JSON_KIND_REAL) {
            api_path_index(reader, i);
            return api_refuse(reader, "wrong_type", "must be a number");
        }
        largest = fmax(largest, fabs(json_number(one, 0)));
    }
    if (largest == 0)
        return api_refuse(reader, "invalid_vector", "must not be all zero");
    if (largest >= 0.01 && largest <= 1) /* it may be of unit length already: do not touch it */
        largest = 1;
    for (uint32_t i = 0; i < len; i++) {
        values[i] = (float)(json_number(json_at(value, i), 0) / largest);
        sum += (double)values[i] * values[i];
    }
    normalize(values, len, sqrt(sum));
    return 0;
}

int api_read_vector(struct api_reader *reader, const struct json_value *value,
                    const struct api_field *field, void *target)
{
    struct api_vector *vector = (struct api_vector *)(void *)((char *)target + field->offset);
    size_t len = json_len(value);

    if (json_kind(value) != JSON_KIND_ARRAY)
        return api_refuse(reader, "wrong_type", "must be a list of numbers");
    if (len < API_DIM_MIN || len > API_DIM_MAX)
        return api_refuse(reader, "wrong_dim", "must hold %d to %d numbers", API_DIM_MIN,
                          API_DIM_MAX);

    float *values = api_take(reader, len * sizeof *values);
    if (!values)
        return -ENOMEM;
    int rc = read_values(reader, value, values, (uint32_t)len);
    if (rc == 0)
        *vector = (struct api_vector){values, (uint32_t)len};
    return rc;
}
