/* ctl_backup.c -- backup and restore of a state folder. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_state.h"
#include "daemon/state_folder.h"
#include "store/backup.h"

const char *ctl_state(const struct ctl *ctl, char path[CTL_STATE_BYTES])
{
    const char *state = ctl->options.state;

    if (state == NULL || *state == '\0')
        state = getenv("LEARND_STATE");
    if (state != NULL && *state != '\0')
        return state;
    state_folder_default(path, CTL_STATE_BYTES);
    return path;
}

enum ctl_exit ctl_state_failed(const char *why, int rc)
{
    bool here = rc == -ENOENT || rc == -EEXIST || rc == -EBUSY || rc == -ENOTEMPTY ||
                rc == -EROFS || rc == -EACCES || rc == -ENAMETOOLONG || rc == -ENOTDIR ||
                rc == -EINVAL;

    ctl_fail(here ? "file" : "failed", "%s", why);
    return here ? CTL_USAGE : CTL_FAILED;
}

static enum ctl_exit report(const struct ctl *ctl, const char *verb, const char *path,
                            const struct store_backup_report *r)
{
    struct api_buffer out = API_BUFFER_INIT;

    if (!ctl->options.json) {
        if (!ctl->options.quiet)
            printf("%s %s%s: %llu models, up to event %lld; %llu files, %.1f MB\n", verb, path,
                   r->replaced ? ", in place of an older one" : "", (unsigned long long)r->models,
                   (long long)r->seq, (unsigned long long)r->files, (double)r->bytes / 1e6);
        return CTL_OK;
    }
    json_open_object(&out);
    json_write_key(&out, "path");
    json_write_string(&out, path);
    json_write_key(&out, "seq");
    json_write_int(&out, r->seq);
    json_write_key(&out, "models");
    json_write_int(&out, (int64_t)r->models);
    json_write_key(&out, "files");
    json_write_int(&out, (int64_t)r->files);
    json_write_key(&out, "bytes");
    json_write_int(&out, (int64_t)r->bytes);
    json_write_key(&out, "replaced");
    json_write_bool(&out, r->replaced);
    json_write_key(&out, "base_sha256");
    json_write_string(&out, r->base[0] != '\0' ? r->base : NULL);
    json_close_object(&out);
    return ctl_print_buffer(&out);
}

enum ctl_exit ctl_backup(struct ctl *ctl)
{
    char path[CTL_STATE_BYTES], why[512] = "";
    struct store_backup_report r = {0};
    int rc;

    if (ctl->args_len != 1)
        return ctl_misused(ctl, "one folder: where the backup is to be");
    signal(SIGXFSZ, SIG_IGN); /* a file over its limit is an error of a write, as a full disk is */
    rc = store_backup(ctl_state(ctl, path), ctl->args[0], !ctl->options.copy, why, sizeof why, &r);
    return rc != 0 ? ctl_state_failed(why, rc) : report(ctl, "backed up to", ctl->args[0], &r);
}

enum ctl_exit ctl_restore(struct ctl *ctl)
{
    char path[CTL_STATE_BYTES], why[512] = "";
    struct store_backup_report r = {0};
    const char *state = ctl_state(ctl, path);
    int rc;

    if (ctl->args_len != 1)
        return ctl_misused(ctl, "one folder: the backup");
    signal(SIGXFSZ, SIG_IGN);
    rc = store_restore(ctl->args[0], state, why, sizeof why, &r);
    return rc != 0 ? ctl_state_failed(why, rc) : report(ctl, "restored to", state, &r);
}
