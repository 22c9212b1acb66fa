/* replay_main.c -- runs a fuzz target over the files of folders: the committed regressions, without
 * libFuzzer. Each file runs whole, and cut in half, so that a truncated input is always among them.
 */
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_BYTES_MAX = 4 << 20 };

static int replay(const char *path, uint8_t *bytes)
{
    FILE *file = fopen(path, "rb");
    uint8_t *exact;
    size_t len;

    if (file == NULL) {
        printf("%s: cannot be read\n", path);
        return 1;
    }
    len = fread(bytes, 1, INPUT_BYTES_MAX, file);
    fclose(file);
    for (int i = 0; i < 2; i++, len /= 2) {
        exact = malloc(len > 0 ? len : 1); /* its own block, so that ASan sees one byte too far */
        if (exact == NULL)
            return 1;
        memcpy(exact, bytes, len);
        LLVMFuzzerTestOneInput(exact, len);
        free(exact);
    }
    return 0;
}

int main(int argc, char **argv)
{
    uint8_t *bytes = malloc(INPUT_BYTES_MAX);
    int passed = 0, failed = 0;

    for (int i = 1; i < argc && bytes != NULL; i++) {
        DIR *folder = opendir(argv[i]);
        const struct dirent *entry;

        if (folder == NULL) {
            printf("%s: no such folder\n", argv[i]);
            failed++;
            continue;
        }
        while ((entry = readdir(folder)) != NULL) {
            char path[1024];

            if (entry->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            if (replay(path, bytes) == 0)
                passed++;
            else
                failed++;
        }
        closedir(folder);
    }
    free(bytes);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
