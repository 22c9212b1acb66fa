/* unicode_forms.c -- see unicode_forms.h. */
#include "kernels/text/unicode_forms.h"

#include <errno.h>
#include <utf8proc.h>

int unicode_form(const char *text, size_t text_bytes, enum unicode_form form, char **ret_text,
                 size_t *ret_len)
{
    static const utf8proc_option_t options[UNICODE_FORMS] = {
        [UNICODE_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
        [UNICODE_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        [UNICODE_PLAIN] =
            UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_CASEFOLD | UTF8PROC_STRIPMARK};
    utf8proc_uint8_t *made = NULL;
    utf8proc_ssize_t len = utf8proc_map((const utf8proc_uint8_t *)text,
                                        (utf8proc_ssize_t)text_bytes, &made, options[form]);

    if (len < 0)
        return len == UTF8PROC_ERROR_NOMEM ? -ENOMEM : -EINVAL;
    *ret_text = (char *)made;
    *ret_len = (size_t)len;
    return 0;
}
