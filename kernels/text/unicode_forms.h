/* unicode_forms.h -- a text in the forms in which it may have been kept. For those who look for
 * what should be gone. */
#ifndef LEARND_UNICODE_FORMS_H
#define LEARND_UNICODE_FORMS_H

#include <stddef.h>

enum unicode_form {
    UNICODE_NFC,
    UNICODE_NFD,
    UNICODE_PLAIN, /* lower case, marks taken off: what a tokenizer makes of it first */
    UNICODE_FORMS
};

/* malloc'd, *ret_len bytes and a NUL; the caller frees. 0, -EINVAL (not UTF-8), -ENOMEM. */
int unicode_form(const char *text, size_t text_bytes, enum unicode_form form, char **ret_text,
                 size_t *ret_len);

#endif
