/* ctl_screen.c -- see ctl_screen.h. */
#include "daemon/ctl/ctl_screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "daemon/ctl/ctl_table.h"
#include "proto/json.h"

#define ENTER "\033[?1049h\033[?25l"
#define LEAVE "\033[0m\033[?25h\033[?1049l"

enum { ESCAPE_MS = 30 }; /* in which the rest of a key's sequence comes */

static struct {
    bool open;
    struct termios before;
    struct sigaction actions[4];
} screen;

static const int SIGNALS[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH};
static volatile sig_atomic_t ended, resized;
static int unread = -1; /* a byte that was read too much; -1: none */

/* On no way out may a partial write lose the end of a sequence. */
static void put(const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, bytes, len);

        if (n < 0 && errno != EINTR)
            return;
        bytes += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
}

static void on_signal(int number)
{
    if (number == SIGWINCH)
        resized = 1;
    else
        ended = 1;
}

bool ctl_screen_is_there(void)
{
    const char *term = getenv("TERM");

    return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && term != NULL &&
           strcmp(term, "dumb") != 0;
}

int ctl_screen_open(void)
{
    static bool registered;
    struct sigaction action = {.sa_handler = on_signal};
    struct termios raw;

    if (tcgetattr(STDIN_FILENO, &screen.before) != 0)
        return -errno;
    raw = screen.before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG | IEXTEN);
    raw.c_iflag &= ~(tcflag_t)(IXON | ICRNL | INLCR);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    if (!registered && atexit(ctl_screen_close) != 0)
        return -ENOMEM;
    registered = true;
    if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) != 0)
        return -errno;
    for (size_t i = 0; i < sizeof SIGNALS / sizeof *SIGNALS; i++)
        sigaction(SIGNALS[i], &action, &screen.actions[i]);
    screen.open = true;
    put(ENTER, sizeof ENTER - 1);
    return 0;
}

void ctl_screen_close(void)
{
    if (!screen.open)
        return;
    screen.open = false;
    put(LEAVE, sizeof LEAVE - 1);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &screen.before);
    for (size_t i = 0; i < sizeof SIGNALS / sizeof *SIGNALS; i++)
        sigaction(SIGNALS[i], &screen.actions[i], NULL);
}

void ctl_screen_size(unsigned *ret_rows, unsigned *ret_columns)
{
    struct winsize size = {.ws_row = 0};

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0)
        size = (struct winsize){.ws_row = 24, .ws_col = 80};
    *ret_rows = size.ws_row;
    *ret_columns = size.ws_col;
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* -1: none in time, or the end. */
static int read_byte(int timeout_ms)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    unsigned char byte;
    int n;

    if (unread >= 0) {
        n = unread;
        unread = -1;
        return n;
    }
    n = poll(&in, 1, timeout_ms);
    if (n <= 0)
        return -1;
    if (read(STDIN_FILENO, &byte, 1) == 1)
        return byte;
    ended = 1;
    return -1;
}

/* Behind ESC: "[A" and such; a lone ESC is the key itself. */
static enum ctl_key_kind read_sequence(void)
{
    int c = read_byte(ESCAPE_MS), number = 0;

    if (c != '[' && c != 'O') {
        unread = c; /* someone types fast: the key itself, then another one */
        return CTL_KEY_ESCAPE;
    }
    while ((c = read_byte(ESCAPE_MS)) >= 0 && c < '@')
        number = c >= '0' && c <= '9' && number < 100 ? number * 10 + c - '0' : number;
    if (c == '~')
        return number == 5 ? CTL_KEY_PAGE_UP : number == 6 ? CTL_KEY_PAGE_DOWN : CTL_KEY_NONE;
    return c == 'A' ? CTL_KEY_UP : c == 'B' ? CTL_KEY_DOWN : CTL_KEY_NONE;
}

static void read_text(int first, struct ctl_key *key)
{
    size_t want = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;

    key->text[0] = (char)first;
    for (size_t i = 1; i < want; i++) {
        int c = read_byte(ESCAPE_MS);

        if (c < 0)
            return;
        key->text[i] = (char)c;
    }
    key->text[want] = '\0';
    if (json_utf8_sequence(key->text, want) == want)
        key->kind = CTL_KEY_TEXT;
}

void ctl_screen_key(int timeout_ms, struct ctl_key *ret_key)
{
    int c = ended || resized ? -1 : read_byte(timeout_ms);

    *ret_key = (struct ctl_key){.kind = CTL_KEY_NONE};
    if (ended || c == 3 || c == 4)
        ret_key->kind = CTL_KEY_QUIT;
    else if (c < 0 && resized)
        ret_key->kind = CTL_KEY_RESIZE;
    else if (c == '\r' || c == '\n')
        ret_key->kind = CTL_KEY_ENTER;
    else if (c == 8 || c == 127)
        ret_key->kind = CTL_KEY_BACKSPACE;
    else if (c == '\t')
        ret_key->kind = CTL_KEY_TAB;
    else if (c == 27)
        ret_key->kind = read_sequence();
    else if (c >= ' ')
        read_text(c, ret_key);
    resized = 0;
}

/* ---- frames ---------------------------------------------------------------------------------- */

/* A line, up to the columns there are; sequences take none. */
static void add_line(struct api_buffer *out, const char *line, size_t len, unsigned columns)
{
    for (size_t at = 0; at < len;) {
        const char *escape = memchr(line + at, '\033', len - at);
        size_t text = escape != NULL ? (size_t)(escape - line) - at : len - at;
        unsigned width = 0;

        api_buffer_add(out, line + at, ctl_measure(line + at, text, columns, &width));
        columns -= width;
        at += text;
        if (at == len)
            break;
        text = 1;
        while (at + text < len && !(line[at + text] >= 'a' && line[at + text] <= 'z'))
            text++;
        text += at + text < len;
        api_buffer_add(out, line + at, text);
        at += text;
    }
}

void ctl_screen_show(const struct api_buffer *frame)
{
    struct api_buffer out = API_BUFFER_INIT;
    const char *at = frame->bytes, *end = frame->bytes + frame->len;
    unsigned rows, columns, row = 0;

    ctl_screen_size(&rows, &columns);
    api_buffer_add_string(&out, "\033[H");
    while (frame->rc == 0 && at < end && row++ < rows) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        size_t len = line_end != NULL ? (size_t)(line_end - at) : (size_t)(end - at);

        if (row > 1)
            api_buffer_add_string(&out, "\r\n");
        add_line(&out, at, len, columns);
        api_buffer_add_string(&out, "\033[K");
        at += len + 1;
    }
    api_buffer_add_string(&out, "\033[J");
    if (out.rc == 0)
        put(out.bytes, out.len);
    api_buffer_done(&out);
}

unsigned ctl_screen_cut(struct api_buffer *frame, const char *text, size_t len, unsigned columns)
{
    unsigned width = 0;
    size_t fits = ctl_measure(text, len, columns, &width);

    if (fits == len || columns == 0) {
        api_buffer_add(frame, text, fits);
        return width;
    }
    fits = ctl_measure(text, len, columns - 1, &width);
    api_buffer_add(frame, text, fits);
    api_buffer_add_string(frame, "\xe2\x80\xa6");
    return width + 1;
}

/* The bytes of the next line, and those it uses up. */
static size_t line_of(const char *text, size_t len, unsigned columns, size_t *ret_used)
{
    unsigned width = 0;
    size_t fits = ctl_measure(text, len, columns, &width), at;

    *ret_used = fits;
    if (fits == len)
        return fits;
    if (fits == 0) { /* a character wider than the screen: alone, and the terminal's to cut */
        size_t one = json_utf8_sequence(text, len);

        *ret_used = one > 0 ? one : 1;
        return *ret_used;
    }
    for (at = fits; at > 0 && text[at] != ' '; at--)
        ;
    if (at == 0)
        return fits;
    *ret_used = at + 1;
    return at;
}

unsigned ctl_screen_wrap(struct api_buffer *frame, const char *text, size_t len, unsigned columns,
                         unsigned indent, unsigned first, unsigned lines_max)
{
    unsigned lines = 0, room = columns > indent ? columns - indent : 1;

    do {
        size_t used = 0, bytes = line_of(text, len, room, &used);

        if (frame != NULL && lines >= first && lines - first < lines_max) {
            for (unsigned i = 0; i < indent; i++)
                api_buffer_add(frame, " ", 1);
            api_buffer_add(frame, text, bytes);
            api_buffer_add(frame, "\n", 1);
        }
        lines++;
        text += used;
        len -= used;
    } while (len > 0);
    return lines;
}
