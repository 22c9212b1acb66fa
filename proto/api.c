/* api.c -- the small words of the protocol: problems, ids, versions, cursors, query parameters,
 * times, names.
 *
 * All pure. A cursor is "where to go on" mixed with a check over the list's letter and the model,
 * so that one that was made for another list, or made up, is refused instead of skipping rows
 * silently. It is no secret and guards nothing else.
 */
#include "proto/api.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/json.h"

/* ---- problems -------------------------------------------------------------------------------- */

/* Cut to fit between two characters: what is kept is still UTF-8. */
static void copy_text(char *to, size_t room, const char *from)
{
    size_t len = strlen(from);

    if (len >= room) {
        for (len = room - 1; len > 0 && ((unsigned char)from[len] & 0xc0) == 0x80;)
            len--;
    }
    memcpy(to, from, len);
    to[len] = '\0';
}

int api_problem_set(struct api_problem *problem, int status, const char *code, const char *field,
                    const char *detail, ...)
{
    char text[512];
    va_list args;

    va_start(args, detail);
    vsnprintf(text, sizeof text, detail, args);
    va_end(args);
    problem->status = status;
    problem->code = code;
    copy_text(problem->field, sizeof problem->field, field);
    copy_text(problem->detail, sizeof problem->detail, text);
    return -EINVAL;
}

const char *api_status_title(int status)
{
    static const struct {
        int status;
        const char *title;
    } TITLES[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };

    for (size_t i = 0; i < sizeof TITLES / sizeof TITLES[0]; i++) {
        if (TITLES[i].status == status)
            return TITLES[i].title;
    }
    return "Error";
}

void api_write_problem(struct api_buffer *buffer, const struct api_problem *problem,
                       const char *request_id)
{
    json_open_object(buffer);
    json_write_key(buffer, "type");
    json_write_string(buffer, "about:blank");
    json_write_key(buffer, "title");
    json_write_string(buffer, api_status_title(problem->status));
    json_write_key(buffer, "status");
    json_write_int(buffer, problem->status);
    json_write_key(buffer, "code");
    json_write_string(buffer, problem->code ? problem->code : "error");
    json_write_key(buffer, "detail");
    json_write_string(buffer, problem->detail);
    if (problem->field[0]) {
        json_write_key(buffer, "field");
        json_write_string(buffer, problem->field);
    }
    if (request_id) {
        json_write_key(buffer, "request_id");
        json_write_string(buffer, request_id);
    }
    json_close_object(buffer);
}

/* ---- ids, versions, cursors ------------------------------------------------------------------ */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int api_id_parse(const char *text, size_t text_bytes, uint8_t ret_id[API_ID_BYTES])
{
    uint8_t id[API_ID_BYTES];

    if (text_bytes != API_ID_CHARS - 1)
        return -EINVAL;
    for (size_t i = 0; i < API_ID_BYTES; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return -EINVAL;
        id[i] = (uint8_t)(high << 4 | low);
    }
    memcpy(ret_id, id, sizeof id);
    return 0;
}

void api_id_format(const uint8_t id[API_ID_BYTES], char ret_text[API_ID_CHARS])
{
    static const char HEX[] = "0123456789abcdef";

    for (size_t i = 0; i < API_ID_BYTES; i++) {
        ret_text[2 * i] = HEX[id[i] >> 4];
        ret_text[2 * i + 1] = HEX[id[i] & 15];
    }
    ret_text[API_ID_CHARS - 1] = '\0';
}

/* Decimal without sign or leading zeros; -EINVAL for anything else or beyond int64. */
static int parse_decimal(const char *text, size_t text_bytes, int64_t *ret_number)
{
    int64_t number = 0;

    if (text_bytes == 0 || text_bytes > 19 || (text[0] == '0' && text_bytes > 1))
        return -EINVAL;
    for (size_t i = 0; i < text_bytes; i++) {
        int digit = text[i] - '0';
        if (digit < 0 || digit > 9 || number > (INT64_MAX - digit) / 10)
            return -EINVAL;
        number = number * 10 + digit;
    }
    *ret_number = number;
    return 0;
}

int api_version_parse(const char *text, size_t text_bytes, struct api_version *ret_version)
{
    struct api_version version;
    const char *dot = text_bytes ? memchr(text, '.', text_bytes) : NULL;

    if (!dot || parse_decimal(text, (size_t)(dot - text), &version.encoder) < 0 ||
        parse_decimal(dot + 1, text_bytes - (size_t)(dot - text) - 1, &version.seq) < 0)
        return -EINVAL;
    *ret_version = version;
    return 0;
}

void api_version_format(struct api_version version, char ret_text[API_VERSION_CHARS])
{
    snprintf(ret_text, API_VERSION_CHARS, "%lld.%lld", (long long)version.encoder,
             (long long)version.seq);
}

/* The finalizer of splitmix64 (Steele, Lea, Flood 2014) over each word in turn. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static void cursor_words(const struct api_cursor *cursor, uint64_t words[2])
{
    uint64_t place = mix((uint64_t)cursor->model * 0x9e3779b97f4a7c15u + (uint8_t)cursor->list);

    words[0] = (uint64_t)cursor->after ^ place;
    words[1] = mix((uint64_t)cursor->after + mix(place));
}

void api_cursor_format(const struct api_cursor *cursor, char ret_text[API_CURSOR_CHARS])
{
    uint64_t words[2];

    cursor_words(cursor, words);
    snprintf(ret_text, API_CURSOR_CHARS, "%016llx%016llx", (unsigned long long)words[0],
             (unsigned long long)words[1]);
}

int api_cursor_parse(const char *text, size_t text_bytes, int64_t start, struct api_cursor *cursor,
                     struct api_problem *problem)
{
    struct api_cursor found = *cursor;
    uint8_t bytes[API_ID_BYTES];
    uint64_t words[2], sent[2] = {0, 0};

    if (!text || text_bytes == 0) {
        cursor->after = start;
        return 0;
    }
    if (api_id_parse(text, text_bytes, bytes) == 0) {
        for (size_t i = 0; i < API_ID_BYTES; i++)
            sent[i / 8] = sent[i / 8] << 8 | bytes[i];
        found.after = 0;
        cursor_words(&found, words);
        found.after = (int64_t)(sent[0] ^ words[0]);
        cursor_words(&found, words);
        if (words[1] == sent[1]) {
            cursor->after = found.after;
            return 0;
        }
    }
    return api_problem_set(problem, 422, "invalid_cursor", "cursor",
                           "must be a next_cursor of this same list");
}

/* ---- query parameters ------------------------------------------------------------------------ */

int api_limit_parse(const char *text, size_t text_bytes, uint32_t *ret_limit,
                    struct api_problem *problem)
{
    int64_t limit = API_LIMIT_DEFAULT;

    if (text && (parse_decimal(text, text_bytes, &limit) < 0 || limit < 1 || limit > API_LIMIT_MAX))
        return api_problem_set(problem, 422, "out_of_range", "limit",
                               "must be a whole number between 1 and %d", API_LIMIT_MAX);
    *ret_limit = (uint32_t)limit;
    return 0;
}

static bool same(const char *text, size_t text_bytes, const char *word)
{
    return strlen(word) == text_bytes && memcmp(text, word, text_bytes) == 0;
}

int api_flag_parse(const char *name, const char *text, size_t text_bytes, bool fallback,
                   bool *ret_flag, struct api_problem *problem)
{
    if (!text)
        *ret_flag = fallback;
    else if (text_bytes == 0 || same(text, text_bytes, "true") || same(text, text_bytes, "1"))
        *ret_flag = true;
    else if (same(text, text_bytes, "false") || same(text, text_bytes, "0"))
        *ret_flag = false;
    else
        return api_problem_set(problem, 422, "invalid_value", name, "must be true or false");
    return 0;
}

/* ---- times ----------------------------------------------------------------------------------- */

void api_time_format(int64_t unix_us, char ret_text[API_TIME_CHARS])
{
    const int64_t first = -62167219200 * INT64_C(1000000);        /* 0000-01-01 */
    const int64_t end = INT64_C(253402300800) * INT64_C(1000000); /* 10000-01-01 */
    int64_t us = unix_us < first ? first : unix_us >= end ? end - 1 : unix_us;

    /* Days since 0000-03-01, so that a leap day is the last of its year (Hinnant,
     * "chrono-compatible low-level date algorithms"). 400 years are 146,097 days. */
    uint64_t micros = (uint64_t)(us - first);
    unsigned fraction = (unsigned)(micros % 1000000);
    unsigned second = (unsigned)(micros / 1000000 % 86400);
    unsigned day =
        (unsigned)(micros / 1000000 / 86400) + 146097 - 60; /* 400 years earlier: never below 0 */
    unsigned era = day / 146097, of_era = day % 146097;
    unsigned year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned march = (5 * of_year + 2) / 153; /* months since March */
    unsigned month = march < 10 ? march + 3 : march - 9;
    unsigned year = year_of_era + era * 400 + (month <= 2) - 400;

    /* The remainders change nothing; they tell the compiler how many digits there can be. */
    snprintf(ret_text, API_TIME_CHARS, "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ", year % 10000,
             month % 100, (of_year - (153 * march + 2) / 5 + 1) % 100, second / 3600 % 100,
             second / 60 % 60, second % 60, fraction);
}

/* ---- lists and names ------------------------------------------------------------------------- */

void api_list_begin(struct api_buffer *buffer, const char *plural)
{
    json_open_object(buffer);
    json_write_key(buffer, plural);
    json_open_array(buffer);
}

void api_list_end(struct api_buffer *buffer, const char *next_cursor)
{
    json_close_array(buffer);
    json_write_key(buffer, "next_cursor");
    json_write_string(buffer, next_cursor);
    json_close_object(buffer);
}

static bool alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool api_model_name_valid(const char *name, size_t name_bytes)
{
    if (name_bytes == 0 || name_bytes > API_NAME_BYTES_MAX || !alphanumeric(name[0]))
        return false;
    for (size_t i = 1; i < name_bytes; i++) {
        if (!alphanumeric(name[i]) && name[i] != '.' && name[i] != '_' && name[i] != '-')
            return false;
    }
    return true;
}

bool api_name_valid(const char *name, size_t name_bytes)
{
    if (name_bytes == 0 || name_bytes > API_NAME_BYTES_MAX)
        return false;
    for (size_t i = 0; i < name_bytes; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c < 0x20 || c == 0x7f)
            return false;
    }
    return true;
}
