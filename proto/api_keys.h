/* api_keys.h -- keys, who one is, and the trail of who changed what. See api.h. */
#ifndef LEARND_API_KEYS_H
#define LEARND_API_KEYS_H

#include "proto/api.h"

enum { API_RATE_MAX = 1000000 };

/* Who may call. Each may all that those before it may. */
enum api_role { API_ROLE_NONE, API_ROLE_PREDICT, API_ROLE_ANNOTATE, API_ROLE_ADMIN };
const char *api_role_name(enum api_role role);
/* API_ROLE_NONE: no such role. */
enum api_role api_role_of(const char *name);

struct api_key_create {
    const char *name;
    enum api_role role; /* not NONE */
    double rate_per_s;  /* 0: any number */
    int64_t expires_us; /* Unix time; 0: never */
};
/* {"name","role","rate_per_s"?,"expires_at"?}; the last two may be null. */
int api_parse_key_create(const char *body, size_t body_bytes, struct api_key_create **ret_create,
                         struct api_problem *problem);
void api_key_create_free(struct api_key_create *create); /* NULL is fine */

struct api_key {
    int64_t id; /* not positive: null, the operator's file */
    const char *name;
    enum api_role role;
    double rate_per_s;  /* 0: null */
    int64_t created_us; /* these: 0: null */
    int64_t expires_us, revoked_us, used_us;
    int64_t now_us; /* to say whether it has expired */
    int64_t requests, corrections;
    const char *secret; /* the key itself, shown once; NULL: not written */
};
void api_write_key(struct api_buffer *buffer, const struct api_key *key);

/* {"role","key","version"}. key NULL: null. version: of the program. */
void api_write_me(struct api_buffer *buffer, enum api_role role, const struct api_key *key,
                  const char *version);

struct api_act {
    int64_t act;
    int64_t time_us;
    int64_t key;     /* not positive: null */
    const char *who; /* the key's name, "local", "admin-key-file" */
    int64_t peer;    /* uid; negative: null */
    const char *address, *action, *object, *request_id;
};
void api_write_act(struct api_buffer *buffer, const struct api_act *act);

#endif
