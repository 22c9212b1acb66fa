/* tokenizer_files.h -- reads a tokenizer's files. Private to kernels/text. */
#ifndef LEARND_TOKENIZER_FILES_H
#define LEARND_TOKENIZER_FILES_H

#include "kernels/text/wordpiece.h"

struct tokenizer_files {
    struct wordpiece wordpiece; /* its vocabulary is owned by the caller afterwards */
    int32_t cls, sep;
    uint32_t vocab_len; /* largest id + 1 */
};

/* tokenizer.json, or vocab.txt with tokenizer_config.json. Errors as tokenizer_open. */
int tokenizer_files_read(const char *folder, char *why, size_t why_bytes,
                         struct tokenizer_files *ret_files);

#endif
