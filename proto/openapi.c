/* openapi.c -- proto/openapi.json inside the program, byte for byte.
 *
 * The assembler reads the file (a path from the root of the tree, where make runs): no generated
 * source, no copy to keep in step. make rebuilds this object when the contract changes; see the
 * rule in the Makefile.
 */
#include "proto/openapi.h"

__asm__(".section .rodata\n"
        ".global openapi_begin\n"
        ".global openapi_end\n"
        "openapi_begin:\n"
        ".incbin \"proto/openapi.json\"\n"
        "openapi_end:\n"
        ".byte 0\n"
        ".previous\n");

extern const char openapi_begin[], openapi_end[];

const char *openapi_json(size_t *ret_bytes)
{
    if (ret_bytes)
        *ret_bytes = (size_t)(openapi_end - openapi_begin);
    return openapi_begin;
}
