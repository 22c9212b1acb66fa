/* tokenizer_files.c -- see tokenizer_files.h. tokenizer.json wins when both forms are there, as in
 * transformers. Its truncation and padding sections are settings of whoever saved it and are
 * ignored.
 */
#include "kernels/text/tokenizer_files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/model_json.h"

enum { FILE_BYTES_MAX = 64 << 20, ID_MAX = 4000000 };

struct names {
    const char *unknown, *cls, *sep;
};

static int refuse(char *why, size_t why_bytes, const char *what)
{
    snprintf(why, why_bytes, "%s", what);
    return -EINVAL;
}

static int add_piece(struct tokenizer_files *f, const char *prefix, const char *piece, size_t bytes,
                     int64_t id, char *why, size_t why_bytes)
{
    size_t prefix_bytes = strlen(prefix);
    int rc;

    if (id < 0 || id > ID_MAX) {
        snprintf(why, why_bytes, "the vocabulary has an id outside 0 .. %d", ID_MAX);
        return -EINVAL;
    }
    if ((uint32_t)id >= f->vocab_len)
        f->vocab_len = (uint32_t)id + 1;
    /* "##" alone, like any piece with the prefix, can only continue a word; as text it is two
     * punctuation marks. */
    if (bytes > prefix_bytes && memcmp(piece, prefix, prefix_bytes) == 0)
        rc = vocabulary_add(f->wordpiece.vocabulary, true, piece + prefix_bytes,
                            bytes - prefix_bytes, (int32_t)id);
    else
        rc = vocabulary_add(f->wordpiece.vocabulary, false, piece, bytes, (int32_t)id);
    return rc == -ENOSPC ? refuse(why, why_bytes, "the vocabulary has a piece of over 32 KB") : rc;
}

static int find_special(struct tokenizer_files *f, const char *name, char *why, size_t why_bytes,
                        int32_t *ret_id)
{
    *ret_id = vocabulary_find(f->wordpiece.vocabulary, false, name, strlen(name));
    if (*ret_id >= 0)
        return 0;
    snprintf(why, why_bytes, "the vocabulary has no %.64s", name);
    return -EINVAL;
}

static int find_specials(struct tokenizer_files *f, const struct names *names, char *why,
                         size_t why_bytes)
{
    int rc = find_special(f, names->unknown, why, why_bytes, &f->wordpiece.unknown);

    if (rc == 0)
        rc = find_special(f, names->cls, why, why_bytes, &f->cls);
    if (rc == 0)
        rc = find_special(f, names->sep, why, why_bytes, &f->sep);
    return rc;
}

/* ---- tokenizer.json -------------------------------------------------------------------------- */

static bool flag(json_t *json, const char *key, bool otherwise)
{
    json_t *value = json_object_get(json, key);

    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static const char *type_of(json_t *json, const char *key)
{
    const char *type = json_string_value(json_object_get(json_object_get(json, key), "type"));

    return type != NULL ? type : "nothing";
}

static int read_vocabulary(struct tokenizer_files *f, json_t *model, json_t *added, char *why,
                           size_t why_bytes)
{
    const char *prefix = json_string_value(json_object_get(model, "continuing_subword_prefix"));
    json_t *vocab = json_object_get(model, "vocab"), *id, *token;
    const char *piece;
    size_t bytes = 0, i;
    int rc;

    if (!json_is_object(vocab) || json_object_size(vocab) == 0)
        return refuse(why, why_bytes, "tokenizer.json: model.vocab must be an object of pieces");
    json_object_foreach(vocab, piece, id) bytes += strlen(piece);
    json_array_foreach(added, i, token) bytes +=
        json_string_length(json_object_get(token, "content"));
    rc = vocabulary_open(json_object_size(vocab) + json_array_size(added), bytes,
                         &f->wordpiece.vocabulary);
    if (rc != 0)
        return rc;
    prefix = prefix != NULL ? prefix : "##";
    json_object_foreach(vocab, piece, id)
    {
        if (rc == 0)
            rc = add_piece(f, prefix, piece, strlen(piece),
                           json_is_integer(id) ? json_integer_value(id) : -1, why, why_bytes);
    }
    json_array_foreach(added, i, token)
    {
        const char *content = json_string_value(json_object_get(token, "content"));

        if (rc == 0 && content != NULL &&
            vocabulary_find(f->wordpiece.vocabulary, false, content, strlen(content)) < 0)
            rc = flag(token, "special", false)
                     ? add_piece(f, prefix, content, strlen(content),
                                 json_integer_value(json_object_get(token, "id")), why, why_bytes)
                     : refuse(why, why_bytes,
                              "tokenizer.json: added tokens outside the vocabulary that are not "
                              "special are not supported");
    }
    return rc;
}

static int read_model(struct tokenizer_files *f, json_t *json, struct names *names, char *why,
                      size_t why_bytes)
{
    json_t *model = json_object_get(json, "model"),
           *normalizer = json_object_get(json, "normalizer");
    const char *unknown = json_string_value(json_object_get(model, "unk_token"));
    json_t *chars = json_object_get(model, "max_input_chars_per_word");
    json_int_t chars_max = json_is_integer(chars) ? json_integer_value(chars) : 100;
    struct wordpiece *wp = &f->wordpiece;

    if (strcmp(type_of(json, "model"), "WordPiece") != 0 ||
        strcmp(type_of(json, "normalizer"), "BertNormalizer") != 0 ||
        strcmp(type_of(json, "pre_tokenizer"), "BertPreTokenizer") != 0) {
        snprintf(why, why_bytes,
                 "tokenizer.json: expected a WordPiece model, a BertNormalizer and a "
                 "BertPreTokenizer, found %.32s, %.32s and %.32s",
                 type_of(json, "model"), type_of(json, "normalizer"),
                 type_of(json, "pre_tokenizer"));
        return -EINVAL;
    }
    if (chars_max < 1 || chars_max >= WORDPIECE_CHARS_MAX)
        return refuse(why, why_bytes, "tokenizer.json: max_input_chars_per_word is out of range");
    wp->word_chars_max = (uint32_t)chars_max;
    wp->lowercase = flag(normalizer, "lowercase", true);
    wp->strip_accents = flag(normalizer, "strip_accents", wp->lowercase);
    wp->clean_text = flag(normalizer, "clean_text", true);
    wp->cjk_spaces = flag(normalizer, "handle_chinese_chars", true);
    if (unknown != NULL)
        names->unknown = unknown;
    return read_vocabulary(f, model, json_object_get(json, "added_tokens"), why, why_bytes);
}

/* ---- vocab.txt ------------------------------------------------------------------------------- */

static int read_file(const char *folder, const char *name, char **ret_bytes, size_t *ret_len)
{
    char path[4096];
    char *bytes = NULL;
    size_t len = 0, room = 1 << 16, got = 0;
    FILE *file;
    int rc = 0;

    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return -EINVAL;
    file = fopen(path, "rb");
    if (file == NULL)
        return errno == ENOENT || errno == ENOMEM ? -errno : -EINVAL;
    do {
        char *bigger = realloc(bytes, room *= 2);

        if (bigger == NULL) {
            rc = -ENOMEM;
            break;
        }
        bytes = bigger;
        got = fread(bytes + len, 1, room - len, file);
        len += got;
    } while (got > 0 && room < FILE_BYTES_MAX);
    if (rc == 0 && (ferror(file) || got > 0))
        rc = -EINVAL;
    fclose(file);
    if (rc != 0) {
        free(bytes);
        return rc;
    }
    *ret_bytes = bytes;
    *ret_len = len;
    return 0;
}

static int read_lines(struct tokenizer_files *f, const char *bytes, size_t len, char *why,
                      size_t why_bytes)
{
    size_t lines = 1, at = 0;
    int64_t id = 0;
    int rc;

    for (size_t i = 0; i < len; i++)
        lines += bytes[i] == '\n';
    rc = vocabulary_open(lines, len, &f->wordpiece.vocabulary);
    while (rc == 0 && at < len) {
        const char *end = memchr(bytes + at, '\n', len - at);
        size_t to = end != NULL ? (size_t)(end - bytes) : len, bytes_len = to - at;

        if (bytes_len > 0 && bytes[at + bytes_len - 1] == '\r')
            bytes_len--;
        rc = add_piece(f, "##", bytes + at, bytes_len, id++, why, why_bytes);
        at = to + 1;
    }
    return rc;
}

static int read_settings(struct tokenizer_files *f, json_t *json, struct names *names, char *why,
                         size_t why_bytes)
{
    struct wordpiece *wp = &f->wordpiece;
    const char *class = json_string_value(json_object_get(json, "tokenizer_class"));
    const char *unknown = json_string_value(json_object_get(json, "unk_token"));
    const char *cls = json_string_value(json_object_get(json, "cls_token"));
    const char *sep = json_string_value(json_object_get(json, "sep_token"));

    wp->word_chars_max = 100;
    wp->lowercase = flag(json, "do_lower_case", true);
    wp->strip_accents = flag(json, "strip_accents", wp->lowercase);
    wp->clean_text = true;
    wp->cjk_spaces = flag(json, "tokenize_chinese_chars", true);
    if (class != NULL && strncmp(class, "Bert", 4) != 0)
        return refuse(why, why_bytes, "tokenizer_config.json: only Bert tokenizers are supported");
    names->unknown = unknown != NULL ? unknown : names->unknown;
    names->cls = cls != NULL ? cls : names->cls;
    names->sep = sep != NULL ? sep : names->sep;
    return 0;
}

static int read_vocab_txt(struct tokenizer_files *f, const char *folder, char *why,
                          size_t why_bytes)
{
    struct names names = {"[UNK]", "[CLS]", "[SEP]"};
    json_t *config = NULL;
    char *bytes = NULL;
    size_t len = 0;
    int rc = read_file(folder, "vocab.txt", &bytes, &len);

    if (rc != 0) {
        snprintf(why, why_bytes, "%s: neither tokenizer.json nor vocab.txt can be read", folder);
        return rc;
    }
    rc = model_json_read(folder, "tokenizer_config.json", FILE_BYTES_MAX, why, why_bytes, &config);
    if (rc == 0 && !json_is_object(config))
        rc = refuse(why, why_bytes, "tokenizer_config.json: must be an object");
    else if (rc == 0 || rc == -ENOENT)
        rc = read_settings(f, config, &names, why, why_bytes);
    if (rc == 0)
        rc = read_lines(f, bytes, len, why, why_bytes);
    if (rc == 0)
        rc = find_specials(f, &names, why, why_bytes);
    json_decref(config);
    free(bytes);
    return rc;
}

int tokenizer_files_read(const char *folder, char *why, size_t why_bytes,
                         struct tokenizer_files *ret_files)
{
    struct tokenizer_files f = {0};
    struct names names = {"[UNK]", "[CLS]", "[SEP]"};
    json_t *json;
    int rc = model_json_read(folder, "tokenizer.json", FILE_BYTES_MAX, why, why_bytes, &json);

    if (rc == -ENOENT) {
        rc = read_vocab_txt(&f, folder, why, why_bytes);
    } else if (rc == 0) {
        rc = read_model(&f, json, &names, why, why_bytes);
        if (rc == 0)
            rc = find_specials(&f, &names, why, why_bytes);
        json_decref(json);
    }
    if (rc == -ENOMEM)
        snprintf(why, why_bytes, "out of memory");
    if (rc != 0)
        vocabulary_close(f.wordpiece.vocabulary);
    else
        *ret_files = f;
    return rc;
}
