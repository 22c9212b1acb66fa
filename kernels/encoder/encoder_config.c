/* encoder_config.c -- see encoder_config.h. Whatever this encoder does not compute is refused by
 * name: a folder that loads must mean here what it means in transformers.
 */
#include "kernels/encoder/encoder_config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "kernels/model_json.h"

enum { CONFIG_BYTES_MAX = 1 << 20 };

static int number(json_t *json, const char *key, uint32_t least, uint32_t most, char *why,
                  size_t why_bytes, uint32_t *ret_value)
{
    json_t *value = json_object_get(json, key);
    json_int_t n = json_is_integer(value) ? json_integer_value(value) : -1;

    if (n < least || n > most) {
        snprintf(why, why_bytes, "config.json: %s must be a whole number from %u to %u", key, least,
                 most);
        return -EINVAL;
    }
    *ret_value = (uint32_t)n;
    return 0;
}

/* A key that may be missing, and if present must say this. */
static int only(json_t *json, const char *key, const char *wanted, char *why, size_t why_bytes)
{
    json_t *value = json_object_get(json, key);
    const char *found = json_is_string(value) ? json_string_value(value) : "no text";

    if (value == NULL || json_is_null(value) || strcmp(found, wanted) == 0)
        return 0;
    snprintf(why, why_bytes, "config.json: %s is \"%.64s\", and only \"%s\" is supported", key,
             found, wanted);
    return -EINVAL;
}

/* What layer norm adds to the variance. BERT's own when the key is missing. */
static int read_eps(json_t *json, char *why, size_t why_bytes, float *ret_eps)
{
    json_t *value = json_object_get(json, "layer_norm_eps");
    double eps = value == NULL ? 1e-12 : json_is_number(value) ? json_number_value(value) : -1;

    if (!(eps >= 0 && eps <= 1)) {
        snprintf(why, why_bytes, "config.json: layer_norm_eps must be a number from 0 to 1");
        return -EINVAL;
    }
    *ret_eps = (float)eps;
    return 0;
}

static int read_config(json_t *json, char *why, size_t why_bytes, struct encoder_config *c)
{
    int rc = json_is_object(json) ? 0 : -EINVAL;

    if (rc != 0)
        snprintf(why, why_bytes, "config.json: must be an object");
    if (rc == 0)
        rc = only(json, "model_type", "bert", why, why_bytes);
    if (rc == 0)
        rc = only(json, "hidden_act", "gelu", why, why_bytes);
    if (rc == 0)
        rc = only(json, "position_embedding_type", "absolute", why, why_bytes);
    if (rc == 0 && json_is_true(json_object_get(json, "is_decoder"))) {
        snprintf(why, why_bytes,
                 "config.json: is_decoder is true, and only encoders are supported");
        rc = -EINVAL;
    }
    /* A matrix has at least two columns: the lists of encoder_weights.h call one column a vector.
     */
    if (rc == 0)
        rc = number(json, "hidden_size", 2, 8192, why, why_bytes, &c->C);
    if (rc == 0)
        rc = number(json, "num_attention_heads", 1, 256, why, why_bytes, &c->H);
    if (rc == 0)
        rc = number(json, "intermediate_size", 2, 65536, why, why_bytes, &c->F);
    if (rc == 0)
        rc = number(json, "num_hidden_layers", 1, 128, why, why_bytes, &c->layers);
    if (rc == 0)
        rc = number(json, "vocab_size", 1, 4000000, why, why_bytes, &c->V);
    if (rc == 0)
        rc = number(json, "max_position_embeddings", 4, 65536, why, why_bytes, &c->positions);
    if (rc == 0)
        rc = number(json, "type_vocab_size", 1, 256, why, why_bytes, &c->segments);
    if (rc == 0 && c->C % c->H != 0) {
        snprintf(why, why_bytes, "config.json: hidden_size %u is no multiple of the %u heads", c->C,
                 c->H);
        rc = -EINVAL;
    }
    return rc != 0 ? rc : read_eps(json, why, why_bytes, &c->eps);
}

static bool truth(json_t *json, const char *key)
{
    return json_is_true(json_object_get(json, key));
}

static int read_pooling(const char *folder, const char *path, char *why, size_t why_bytes,
                        struct encoder_config *c)
{
    char name[256];
    json_t *json;
    int rc;

    snprintf(name, sizeof name, "%.200s/config.json", path);
    rc = model_json_read(folder, name, CONFIG_BYTES_MAX, why, why_bytes, &json);
    if (rc != 0)
        return rc == -ENOENT ? -EINVAL : rc;
    if (truth(json, "pooling_mode_max_tokens") ||
        truth(json, "pooling_mode_mean_sqrt_len_tokens") ||
        truth(json, "pooling_mode_weightedmean_tokens") || truth(json, "pooling_mode_lasttoken") ||
        truth(json, "pooling_mode_cls_token") == truth(json, "pooling_mode_mean_tokens")) {
        snprintf(why, why_bytes, "%s: only one of mean and CLS pooling is supported", name);
        rc = -EINVAL;
    }
    c->pooling = truth(json, "pooling_mode_cls_token") ? ENCODER_POOL_CLS : ENCODER_POOL_MEAN;
    json_decref(json);
    return rc;
}

/* modules.json lists the parts of a sentence-transformers model. A plain transformers folder has
 * none: mean pooling, as sentence-transformers itself would build it. */
static int read_modules(const char *folder, char *why, size_t why_bytes, struct encoder_config *c)
{
    json_t *json, *module;
    size_t i;
    int rc = model_json_read(folder, "modules.json", CONFIG_BYTES_MAX, why, why_bytes, &json);

    c->pooling = ENCODER_POOL_MEAN;
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    if (!json_is_array(json)) {
        snprintf(why, why_bytes, "modules.json: must be a list of modules");
        rc = -EINVAL;
    }
    json_array_foreach(json, i, module)
    {
        const char *type = json_string_value(json_object_get(module, "type"));
        const char *path = json_string_value(json_object_get(module, "path"));
        const char *last = type != NULL ? strrchr(type, '.') : NULL;

        last = last != NULL ? last + 1 : type;
        if (last == NULL || path == NULL || strstr(path, "..") != NULL || path[0] == '/') {
            snprintf(why, why_bytes, "modules.json: module %zu has no usable type and path", i);
            rc = -EINVAL;
        } else if (strcmp(last, "Pooling") == 0) {
            rc = read_pooling(folder, path, why, why_bytes, c);
        } else if (strcmp(last, "Transformer") != 0 && strcmp(last, "Normalize") != 0) {
            snprintf(why, why_bytes, "modules.json: a %.64s module is not supported", last);
            rc = -EINVAL;
        }
        if (rc != 0)
            break;
    }
    json_decref(json);
    return rc;
}

static int read_length(const char *folder, char *why, size_t why_bytes, struct encoder_config *c)
{
    json_t *json;
    json_int_t n;
    int rc = model_json_read(folder, "sentence_bert_config.json", CONFIG_BYTES_MAX, why, why_bytes,
                             &json);

    c->tokens_max = c->positions;
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    n = json_integer_value(json_object_get(json, "max_seq_length"));
    if (n >= 4 && n < c->positions)
        c->tokens_max = (uint32_t)n;
    json_decref(json);
    return 0;
}

int encoder_config_read(const char *folder, char *why, size_t why_bytes,
                        struct encoder_config *ret_config)
{
    struct encoder_config c = {0};
    json_t *json;
    int rc = model_json_read(folder, "config.json", CONFIG_BYTES_MAX, why, why_bytes, &json);

    if (rc != 0)
        return rc;
    rc = read_config(json, why, why_bytes, &c);
    json_decref(json);
    if (rc == 0)
        rc = read_modules(folder, why, why_bytes, &c);
    if (rc == 0)
        rc = read_length(folder, why, why_bytes, &c);
    if (rc == 0)
        *ret_config = c;
    return rc;
}
