/* model_json.h -- reads the JSON files of a model folder (config.json, tokenizer.json, the
 * safetensors header).
 *
 * The only file under kernels/ that names jansson: a model's own configuration is the one JSON that
 * kernels/ may see. Values are jansson's; json_decref() them.
 */
#ifndef LEARND_MODEL_JSON_H
#define LEARND_MODEL_JSON_H

#include <jansson.h>
#include <stddef.h>

/* Parses folder/name, which must be one JSON object or array of at most bytes_max bytes. 0,
 * -ENOENT, -ENOMEM, -EINVAL (too large, not JSON); `why` then names the file and the place. */
int model_json_read(const char *folder, const char *name, size_t bytes_max, char *why,
                    size_t why_bytes, json_t **ret_json);

/* The same for bytes in memory; `name` is for the message. */
int model_json_parse(const char *name, const char *bytes, size_t bytes_len, char *why,
                     size_t why_bytes, json_t **ret_json);

#endif
