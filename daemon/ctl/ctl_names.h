/* ctl_names.h -- names and their numbers, 0, 1, 2 .. in order of arrival; several names may mean
 * one. Bytes are not looked at, NUL included. */
#ifndef LEARND_CTL_NAMES_H
#define LEARND_CTL_NAMES_H

#include <stddef.h>
#include <stdint.h>

#define CTL_NAMES_NONE UINT32_MAX

struct ctl_name {
    const char *bytes; /* (len) and a NUL */
    size_t len;
};

struct ctl_names;

/* 0, -ENOMEM. */
int ctl_names_open(struct ctl_names **ret_names);
void ctl_names_close(struct ctl_names *names);
/* The number of a name, a new one if it has none. 0, -ENOMEM. */
int ctl_names_add(struct ctl_names *names, const char *bytes, size_t len, uint32_t *ret_number);
/* A name that means this number too; nothing if it means one already. 0, -ENOMEM. */
int ctl_names_alias(struct ctl_names *names, const char *bytes, size_t len, uint32_t number);
uint32_t ctl_names_find(const struct ctl_names *names, const char *bytes, size_t len);
uint32_t ctl_names_len(const struct ctl_names *names); /* numbers */
/* The name that got this number first. */
struct ctl_name ctl_names_at(const struct ctl_names *names, uint32_t number);

#endif
