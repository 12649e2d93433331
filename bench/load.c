/*
 * The load client: thousands of subscribers and some publishers, one thread.
 *
 * It is told what to do line by line on standard input and answers each line
 * with one line of JSON, so the driver can look at the server in between while
 * the connections stay open.  What is sent comes prepared from the driver.
 *
 *   load HOST PORT KIND FIRST_EVENT SUBSCRIBERS HEARTBEAT ACCEPTED GREETING PUBLISH_PORT
 *
 *   KIND         sse | long-poll | websocket | polling
 *   FIRST_EVENT  1: connected when the first event is read; 0: when the head is
 *   SUBSCRIBERS  file of [u32 file][u32 bytes][request without its last CRLF]
 *   HEARTBEAT    text that is counted as one heartbeat; may be empty
 *   ACCEPTED     text that a publisher's answer must hold; may be empty
 *   GREETING     whole request that a new publisher sends before the clock runs;
 *                it is answered, whatever the answer, and the connection stays
 *   PUBLISH_PORT where the publishers go; often the same as PORT
 *
 *   open FROM TO IN_FLIGHT TIMEOUT_S
 *   publish PLAN IN_FLIGHT PER_SECOND SEND_S TIMEOUT_S   (PER_SECOND 0: no pace)
 *       PLAN     file of [u32 file][u32 seq][u32 bytes][request]
 *   wait SECONDS
 *   storm TIMEOUT_S                close all, then open all at once
 *   polling INTERVAL_MS            every subscriber asks again in that time
 *   close
 *
 * An event is known by the id and the seq of the FILE it carries, wherever it
 * stands in the bytes: "id":"....<12 digits>","seq":<n>.  Send times are kept
 * here, so that a signed body need not hold them.  Numbers are little-endian.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum {
    BUFFER_BYTES = 1 << 20,
    MAX_KEPT_BYTES = 1 << 18,
    MAX_TRIES = 50,
    SOURCES = 16, /* 127.0.0.2 and up: the ports of one address do not last */
    GREETING_S = 20,
    LINGER_MS = 150, /* after the last expected event, for doubled ones */
};
#define BOUND_SHARE 0.9 /* of its core: the client is what limits */

enum kind { SSE, LONG_POLL, WEBSOCKET, POLLING };
enum state { CLOSED, CONNECTING, SENT, LIVE };
enum tag { TAG_SUBSCRIBER, TAG_PUBLISHER, TAG_STDIN, TAG_TIMER };

/* Bytes of an answer that is not complete yet. */
struct kept {
    char *bytes;
    uint32_t length;
};

struct subscriber {
    const char *request;
    uint32_t request_bytes;
    uint32_t file;
    uint32_t last_seq;
    int fd;
    uint8_t state;
    uint8_t is_fresh; /* no event yet on this connection */
    uint8_t is_asking; /* long-poll and polling: an answer is due */
    uint8_t tries;
    uint64_t began_ns;
    struct kept kept;
    char *cursor; /* header lines of the next long-poll */
};

struct publisher {
    int fd;
    uint8_t state; /* LIVE: free; SENT: an answer is due; CONNECTING: greeting */
    uint32_t publication;
    struct kept kept;
};

struct publication {
    const char *request;
    uint32_t request_bytes;
    uint32_t file;
    uint32_t seq;
    uint32_t delivered;
    uint64_t sent_ns;
};

struct samples {
    float *ms;
    size_t count, room;
};

static enum kind kind;
static int wants_first_event;
static const char *heartbeat, *accepted, *greeting;
static struct sockaddr_in server;
static in_port_t publish_port;
static int epoll_fd, timer_fd;
static char buffer[BUFFER_BYTES];

static struct subscriber *subscribers;
static uint32_t subscriber_count, file_count;
static uint32_t *live_of_file, *known_seq; /* by file; known: answered 2xx */
static uint32_t live_count;

static struct publisher *publishers;
static uint32_t publisher_count;

static struct publication *plan;
static uint32_t plan_count, plan_next, plan_busy;
static int is_publishing; /* events of a plan that is over are late */
static uint32_t *plan_start, *plan_base_seq, *plan_by_file; /* by file */
static uint32_t *plan_size;
static uint8_t *is_busy; /* by file: a publication is not answered yet */
static char *plan_map;
static size_t plan_map_bytes;

static uint64_t polling_ns, polling_began_ns, polling_asked;

static struct samples latencies;
static uint64_t last_delivery_ns, last_answer_ns, expected;
static uint64_t phase_began_ns;
static double phase_cpu_s;
static char refusal[200];

static struct {
    uint64_t connected, retries, refused_connects, closed, heartbeats, bytes, requests;
    uint64_t answered, refused, failed, delivered, doubled, misrouted, skipped, late;
    uint64_t wrong_state, states, overdue;
} count;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, errno ? strerror(errno) : "wrong");
    exit(1);
}

static void *made(size_t number, size_t bytes)
{
    void *memory = calloc(number ? number : 1, bytes);
    if (!memory)
        die("memory");
    return memory;
}

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec)
        + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void sample(float ms)
{
    if (latencies.count == latencies.room) {
        latencies.room = latencies.room ? 2 * latencies.room : 1 << 16;
        latencies.ms = realloc(latencies.ms, latencies.room * sizeof(float));
        if (!latencies.ms)
            die("memory");
    }
    latencies.ms[latencies.count++] = ms;
}

/* ---- bytes kept between two reads ------------------------------------- */

static void keep(struct kept *kept, const char *from, size_t length)
{
    if (length > MAX_KEPT_BYTES)
        die("an answer without an end");
    char *bytes = length ? made(1, length) : NULL;
    if (length)
        memcpy(bytes, from, length);
    free(kept->bytes);
    kept->bytes = bytes;
    kept->length = (uint32_t)length;
}

/* Reads once; `buffer` then holds what was kept and what is new. */
static ssize_t read_more(int fd, struct kept *kept, size_t *length)
{
    if (kept->length)
        memcpy(buffer, kept->bytes, kept->length);
    ssize_t got = recv(fd, buffer + kept->length, BUFFER_BYTES - kept->length - 1, 0);
    *length = kept->length + (got > 0 ? (size_t)got : 0);
    if (got > 0) {
        buffer[*length] = 0;
        count.bytes += (uint64_t)got;
    }
    return got;
}

/* ---- events ----------------------------------------------------------- */

static struct publication *find_publication(uint32_t file, uint32_t seq)
{
    if (!is_publishing || file >= file_count || !plan_size[file] || seq < plan_base_seq[file])
        return NULL;
    uint32_t at = seq - plan_base_seq[file];
    if (at >= plan_size[file])
        return NULL;
    struct publication *p = &plan[plan_by_file[plan_start[file] + at]];
    return p->sent_ns ? p : NULL;
}

static void on_event(struct subscriber *s, uint32_t file, uint32_t seq, uint64_t at_ns)
{
    int fresh = s->is_fresh;
    s->is_fresh = 0;
    if (file != s->file) {
        count.misrouted++;
        return;
    }
    if (fresh && wants_first_event) {
        count.states++;
        if (seq < known_seq[file])
            count.wrong_state++;
    }
    if (seq <= s->last_seq) {
        /* A stored event on connect, or the same row read again by a poll. */
        if (!fresh && kind != POLLING)
            count.doubled++;
        return;
    }
    if (s->last_seq && seq != s->last_seq + 1)
        count.skipped++;
    s->last_seq = seq;
    struct publication *p = find_publication(file, seq);
    if (p) {
        p->delivered++;
        count.delivered++;
        last_delivery_ns = at_ns;
        sample((float)((double)(at_ns - p->sent_ns) / 1e6));
    } else if (!fresh) {
        count.late++;
    }
}

/* Finds every FILE in a piece of text: its id ends in 12 digits, then its seq. */
static void find_events(struct subscriber *s, const char *text, size_t length, uint64_t at_ns)
{
    static const char MARK[] = "\",\"seq\":";
    const char *end = text + length, *at = text;
    while ((at = memmem(at, (size_t)(end - at), MARK, sizeof MARK - 1))) {
        uint32_t file = 0, seq = 0;
        if (at - text >= 12)
            for (const char *digit = at - 12; digit < at; digit++)
                file = file * 10 + (uint32_t)(*digit - '0');
        for (at += sizeof MARK - 1; at < end && *at >= '0' && *at <= '9'; at++)
            seq = seq * 10 + (uint32_t)(*at - '0');
        on_event(s, file, seq, at_ns);
    }
}

static void find_heartbeats(const char *text, size_t length)
{
    size_t size = strlen(heartbeat);
    const char *end = text + length, *at = text;
    while (size && (at = memmem(at, (size_t)(end - at), heartbeat, size))) {
        count.heartbeats++;
        at += size;
    }
}

/* ---- subscribers ------------------------------------------------------ */

static void set_live(struct subscriber *s, uint64_t at_ns)
{
    if (s->state == LIVE)
        return;
    s->state = LIVE;
    live_count++;
    live_of_file[s->file]++;
    count.connected++;
    sample((float)((double)(at_ns - s->began_ns) / 1e6));
}

static void hang_up(struct subscriber *s)
{
    if (s->fd < 0)
        return;
    close(s->fd);
    s->fd = -1;
    if (s->state == LIVE) {
        live_count--;
        live_of_file[s->file]--;
    }
    s->state = CLOSED;
    s->is_asking = 0;
    keep(&s->kept, NULL, 0);
}

static void watch(int fd, enum tag tag, uint32_t number, uint32_t events, int operation)
{
    struct epoll_event e = {
        .events = events, .data.u64 = (uint64_t)tag << 32 | number };
    if (epoll_ctl(epoll_fd, operation, fd, &e) < 0)
        die("epoll_ctl");
}

static int dial(uint32_t source, in_port_t port)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket (raise the limit of open files)");
    struct sockaddr_in from = { .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(0x7f000002u + source % SOURCES) };
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0)
        die("bind");
    struct sockaddr_in to = server;
    to.sin_port = port;
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
        die("connect");
    return fd;
}

static void call(struct subscriber *s, uint64_t began_ns)
{
    uint32_t number = (uint32_t)(s - subscribers);
    s->fd = dial(number, server.sin_port);
    s->state = CONNECTING;
    s->is_fresh = 1;
    s->began_ns = began_ns;
    watch(s->fd, TAG_SUBSCRIBER, number, EPOLLOUT, EPOLL_CTL_ADD);
}

static void call_again(struct subscriber *s)
{
    uint64_t began_ns = s->began_ns;
    hang_up(s);
    if (++s->tries > MAX_TRIES) {
        count.refused_connects++;
        return;
    }
    count.retries++;
    call(s, began_ns);
}

/* A request is small and the socket empty: it fits, or the peer is gone. */
static int send_all(int fd, const char *bytes, size_t length)
{
    while (length) {
        ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd p = { .fd = fd, .events = POLLOUT };
            poll(&p, 1, 1000);
            continue;
        }
        if (sent < 0)
            return -1;
        bytes += sent;
        length -= (size_t)sent;
    }
    return 0;
}

static int ask(struct subscriber *s)
{
    static char request[1 << 16];
    const char *cursor = s->cursor ? s->cursor : "";
    size_t length = s->request_bytes, extra = strlen(cursor);
    if (length + extra + 2 > sizeof request)
        die("a request over 64 KiB");
    memcpy(request, s->request, length);
    memcpy(request + length, cursor, extra);
    memcpy(request + length + extra, "\r\n", 2);
    s->is_asking = 1;
    count.requests++;
    return send_all(s->fd, request, length + extra + 2);
}

static void on_connected(struct subscriber *s)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        call_again(s);
        return;
    }
    watch(s->fd, TAG_SUBSCRIBER, (uint32_t)(s - subscribers), EPOLLIN, EPOLL_CTL_MOD);
    s->state = SENT;
    if (kind == POLLING) {
        set_live(s, now_ns()); /* it asks when its turn comes */
        return;
    }
    if (ask(s) < 0)
        call_again(s);
    else if (kind == LONG_POLL)
        set_live(s, now_ns()); /* nothing comes back until there is news */
}

/* The value of a header in a head that ends in an empty line, or NULL. */
static const char *header(const char *head, const char *name)
{
    const char *at = strcasestr(head, name);
    if (!at)
        return NULL;
    at += strlen(name);
    while (*at == ' ')
        at++;
    return at;
}

/* Length of the first whole answer in `text`, 0 if it is not whole yet. */
static size_t whole_answer(char *text, size_t length, char **body, size_t *body_bytes)
{
    char *head_end = memmem(text, length, "\r\n\r\n", 4);
    if (!head_end)
        return 0;
    char after = head_end[2];
    head_end[2] = 0;
    const char *said = header(text, "\r\nContent-Length:");
    size_t size = said ? (size_t)strtoul(said, NULL, 10) : 0;
    head_end[2] = after;
    *body = head_end + 4;
    *body_bytes = size;
    size_t whole = (size_t)(head_end + 4 - text) + size;
    return whole <= length ? whole : 0;
}

static int is_good(const char *answer)
{
    return !strncmp(answer, "HTTP/1.1 2", 10) || !strncmp(answer, "HTTP/1.1 101", 12)
        || !strncmp(answer, "HTTP/1.1 304", 12);
}

static void remember_refusal(const char *answer, size_t length)
{
    if (refusal[0])
        return;
    const char *body = memmem(answer, length, "\r\n\r\n", 4);
    int line = (int)strcspn(answer, "\r\n");
    snprintf(refusal, sizeof refusal, "%.*s %.100s", line > 60 ? 60 : line, answer,
        body ? body + 4 : "");
    for (char *c = refusal; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ')
            *c = '\'';
}

/* The next long-poll continues where this answer ended: nchan and ours. */
static void move_cursor(struct subscriber *s, const char *answer, const char *body)
{
    char lines[200] = "";
    const char *modified = header(answer, "\r\nLast-Modified:");
    const char *tag = header(answer, "\r\nEtag:");
    const char *after = strstr(body, "\"after\":");
    if (after)
        snprintf(lines, sizeof lines, "Last-Event-ID: %lu\r\n", strtoul(after + 8, NULL, 10));
    else if (modified && tag)
        snprintf(lines, sizeof lines, "If-Modified-Since: %.*s\r\nIf-None-Match: %.*s\r\n",
            (int)strcspn(modified, "\r"), modified, (int)strcspn(tag, "\r"), tag);
    else
        return;
    free(s->cursor);
    s->cursor = strdup(lines);
}

static void on_answer(struct subscriber *s, size_t length, uint64_t at_ns)
{
    char *body;
    size_t body_bytes, whole = whole_answer(buffer, length, &body, &body_bytes);
    if (!whole) {
        keep(&s->kept, buffer, length);
        return;
    }
    keep(&s->kept, buffer + whole, length - whole);
    buffer[whole] = 0;
    s->is_asking = 0;
    if (!is_good(buffer)) {
        remember_refusal(buffer, whole);
        count.refused++;
    }
    find_events(s, body, body_bytes, at_ns);
    if (kind == LONG_POLL) {
        move_cursor(s, buffer, body);
        if (is_good(buffer) && ask(s) < 0)
            call_again(s);
    }
}

/* Whole frames only; a ping is answered (RFC 6455, 5.5.2). */
static size_t on_frames(struct subscriber *s, char *text, size_t length, uint64_t at_ns)
{
    size_t used = 0;
    while (length - used >= 2) {
        const unsigned char *f = (const unsigned char *)text + used;
        size_t size = f[1] & 0x7f, head = 2;
        if (size == 126) {
            if (length - used < 4)
                break;
            size = (size_t)f[2] << 8 | f[3];
            head = 4;
        } else if (size == 127) {
            die("a frame over 64 KiB");
        }
        if (length - used < head + size)
            break;
        if ((f[0] & 0x0f) == 9) {
            char pong[6 + 125] = { (char)0x8a, (char)(0x80 | size) };
            memcpy(pong + 6, f + head, size);
            count.heartbeats++;
            send_all(s->fd, pong, 6 + size);
        } else {
            find_events(s, (const char *)f + head, size, at_ns);
        }
        used += head + size;
    }
    return used;
}

/* Whole lines only, so that no mark is cut in two. */
static size_t on_lines(struct subscriber *s, char *text, size_t length, uint64_t at_ns)
{
    char *last = memrchr(text, '\n', length);
    size_t used = last ? (size_t)(last + 1 - text) : 0;
    find_heartbeats(text, used);
    find_events(s, text, used, at_ns);
    return used;
}

static void on_stream(struct subscriber *s, size_t length, uint64_t at_ns)
{
    size_t used = 0;
    if (s->state == SENT && s->is_asking) {
        char *head_end = memmem(buffer, length, "\r\n\r\n", 4);
        if (!head_end) {
            keep(&s->kept, buffer, length);
            return;
        }
        if (!is_good(buffer)) {
            remember_refusal(buffer, length);
            count.refused_connects++;
            hang_up(s);
            return;
        }
        s->is_asking = 0;
        used = (size_t)(head_end + 4 - buffer);
        if (!wants_first_event)
            set_live(s, at_ns);
    }
    used += (kind == WEBSOCKET ? on_frames : on_lines)(s, buffer + used, length - used, at_ns);
    if (wants_first_event && !s->is_fresh)
        set_live(s, at_ns);
    if (used < length || s->kept.length)
        keep(&s->kept, buffer + used, length - used);
}

static void on_lost(struct subscriber *s)
{
    if (s->state != LIVE) {
        call_again(s);
        return;
    }
    count.closed++;
    uint64_t began_ns = now_ns();
    hang_up(s);
    if (kind == LONG_POLL || kind == POLLING)
        call(s, began_ns);
}

static void on_subscriber(uint32_t number, uint32_t events)
{
    struct subscriber *s = &subscribers[number];
    if (s->fd < 0)
        return;
    if (s->state == CONNECTING) {
        on_connected(s);
        return;
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    size_t length;
    ssize_t got = read_more(s->fd, &s->kept, &length);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        on_lost(s);
    else if (kind == SSE || kind == WEBSOCKET)
        on_stream(s, length, now_ns());
    else
        on_answer(s, length, now_ns());
}

/* Request k of all is due at k / N of an interval, and is subscriber k % N's. */
static void poll_who_is_due(uint64_t at_ns)
{
    if (!polling_ns || !subscriber_count)
        return;
    double due = (double)(at_ns - polling_began_ns) / (double)polling_ns;
    uint64_t until = (uint64_t)(due * (double)subscriber_count);
    for (; polling_asked < until; polling_asked++) {
        struct subscriber *s = &subscribers[polling_asked % subscriber_count];
        if (s->state != LIVE)
            continue;
        if (s->is_asking)
            count.overdue++;
        else if (ask(s) < 0)
            on_lost(s);
    }
}

/* ---- publishers ------------------------------------------------------- */

/*
 * A server that accepts one connection per turn of its loop would be charged for
 * taking new publishers in, so each is answered once before the clock runs.
 */
static void greet(struct publisher *p)
{
    p->state = CONNECTING;
    send_all(p->fd, greeting, strlen(greeting));
}

static void set_publishers(uint32_t number)
{
    for (; publisher_count < number; publisher_count++) {
        publishers = realloc(publishers, (publisher_count + 1) * sizeof *publishers);
        if (!publishers)
            die("memory");
        struct publisher *p = &publishers[publisher_count];
        memset(p, 0, sizeof *p);
        p->fd = dial(publisher_count, publish_port);
        struct pollfd wait = { .fd = p->fd, .events = POLLOUT };
        poll(&wait, 1, 5000);
        watch(p->fd, TAG_PUBLISHER, publisher_count, EPOLLIN, EPOLL_CTL_ADD);
        greet(p);
    }
}

static uint32_t publishers_greeting(void)
{
    uint32_t number = 0;
    for (uint32_t i = 0; i < publisher_count; i++)
        number += publishers[i].state == CONNECTING;
    return number;
}

static void dial_again(struct publisher *p)
{
    close(p->fd);
    p->fd = dial((uint32_t)(p - publishers), publish_port);
    struct pollfd wait = { .fd = p->fd, .events = POLLOUT };
    poll(&wait, 1, 5000);
    keep(&p->kept, NULL, 0);
    p->state = LIVE;
    watch(p->fd, TAG_PUBLISHER, (uint32_t)(p - publishers), EPOLLIN, EPOLL_CTL_ADD);
}

static void publish(struct publisher *p, uint64_t since_ns)
{
    struct publication *one = &plan[plan_next];
    p->publication = plan_next++;
    one->sent_ns = since_ns ? since_ns : now_ns();
    p->state = SENT;
    plan_busy++;
    is_busy[one->file] = 1;
    expected += live_of_file[one->file];
    count.requests++;
    send_all(p->fd, one->request, one->request_bytes); /* a loss shows as EOF */
}

static void on_published(struct publisher *p, size_t length)
{
    char *body;
    size_t body_bytes, whole = whole_answer(buffer, length, &body, &body_bytes);
    if (!whole) {
        keep(&p->kept, buffer, length);
        return;
    }
    buffer[whole] = 0;
    keep(&p->kept, NULL, 0);
    int is_greeted = p->state == CONNECTING;
    p->state = LIVE;
    if (is_greeted)
        return;
    plan_busy--;
    last_answer_ns = now_ns();
    struct publication *one = &plan[p->publication];
    is_busy[one->file] = 0;
    if (!strncmp(buffer, "HTTP/1.1 2", 10) && strstr(buffer, accepted)) {
        count.answered++;
        if (known_seq[one->file] < one->seq)
            known_seq[one->file] = one->seq;
        return;
    }
    remember_refusal(buffer, whole);
    count.refused++;
    expected -= live_of_file[one->file];
}

static void on_publisher(uint32_t number)
{
    struct publisher *p = &publishers[number];
    size_t length;
    ssize_t got = read_more(p->fd, &p->kept, &length);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got > 0) {
        if (p->state != LIVE)
            on_published(p, length);
        return;
    }
    if (p->state == SENT) {
        count.failed++;
        plan_busy--;
        is_busy[plan[p->publication].file] = 0;
        expected -= live_of_file[plan[p->publication].file];
    }
    dial_again(p);
}

/* ---- the loop --------------------------------------------------------- */

static int stdin_is_ready;

static void pump(int timeout_ms)
{
    struct epoll_event events[1024];
    int got = epoll_wait(epoll_fd, events, 1024, timeout_ms);
    for (int i = 0; i < got; i++) {
        uint32_t number = (uint32_t)events[i].data.u64;
        switch ((enum tag)(events[i].data.u64 >> 32)) {
        case TAG_SUBSCRIBER:
            on_subscriber(number, events[i].events);
            break;
        case TAG_PUBLISHER:
            on_publisher(number);
            break;
        case TAG_STDIN:
            stdin_is_ready = 1;
            break;
        case TAG_TIMER: {
            uint64_t ticks;
            if (read(timer_fd, &ticks, sizeof ticks) < 0) { }
            break;
        }
        }
    }
    poll_who_is_due(now_ns());
}

static void wake_at(uint64_t at_ns)
{
    struct itimerspec when = { .it_value = { .tv_sec = (time_t)(at_ns / 1000000000u),
                                   .tv_nsec = (long)(at_ns % 1000000000u) } };
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* What happened since the last answer counts, too: no fault falls in between. */
static void begin_phase(void)
{
    count.connected = count.refused_connects = count.retries = 0;
    latencies.count = 0;
    refusal[0] = 0;
    expected = last_delivery_ns = last_answer_ns = 0;
    phase_cpu_s = cpu_s();
    phase_began_ns = now_ns();
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static double percentile(double share)
{
    if (!latencies.count)
        return 0;
    size_t at = (size_t)(share * (double)(latencies.count - 1) + 0.5);
    return latencies.ms[at];
}

/* `seconds` is how long the work took, not until this is said. */
static void end_phase(double seconds, uint64_t sent)
{
    double wall = (double)(now_ns() - phase_began_ns) / 1e9;
    double share = wall > 0 ? (cpu_s() - phase_cpu_s) / wall : 0;
    qsort(latencies.ms, latencies.count, sizeof(float), by_size);
    uint64_t missing = expected > count.delivered ? expected - count.delivered : 0;
    printf("{\"seconds\":%.6f,\"live\":%u,\"connected\":%lu,\"retries\":%lu,"
           "\"refused_connects\":%lu,\"closed\":%lu,\"heartbeats\":%lu,\"bytes\":%lu,"
           "\"requests\":%lu,\"sent\":%lu,\"answered\":%lu,\"refused\":%lu,\"failed\":%lu,"
           "\"expected\":%lu,\"delivered\":%lu,\"missing\":%lu,\"doubled\":%lu,"
           "\"misrouted\":%lu,\"skipped\":%lu,\"late\":%lu,\"states\":%lu,"
           "\"wrong_state\":%lu,\"overdue\":%lu,\"p50_ms\":%.4f,\"p90_ms\":%.4f,"
           "\"p99_ms\":%.4f,\"max_ms\":%.4f,\"client_cpu_share\":%.3f,"
           "\"client_is_the_limit\":%s,\"refusal\":\"%s\"}\n",
        seconds, live_count, count.connected, count.retries, count.refused_connects,
        count.closed, count.heartbeats, count.bytes, count.requests, sent, count.answered,
        count.refused, count.failed, expected, count.delivered, missing, count.doubled,
        count.misrouted, count.skipped, count.late, count.states, count.wrong_state,
        count.overdue, percentile(0.5), percentile(0.9), percentile(0.99), percentile(1),
        share, share > BOUND_SHARE ? "true" : "false", refusal);
    fflush(stdout);
    memset(&count, 0, sizeof count);
}

static double seconds_since(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (double)(to_ns - from_ns) / 1e9 : 0;
}

/* ---- what it is told -------------------------------------------------- */

static void do_open(uint32_t from, uint32_t to, uint32_t in_flight, double timeout_s)
{
    begin_phase();
    uint64_t deadline = phase_began_ns + (uint64_t)(timeout_s * 1e9);
    uint32_t next = from;
    if (to > subscriber_count)
        die("open: not so many subscribers");
    for (;;) {
        uint64_t done = count.connected + count.refused_connects;
        while (next < to && next - from - done < in_flight) {
            subscribers[next].tries = 0;
            call(&subscribers[next++], now_ns());
        }
        if (done >= to - from || now_ns() >= deadline)
            break;
        pump(100);
    }
    end_phase(seconds_since(phase_began_ns, now_ns()), 0);
}

static void do_storm(double timeout_s)
{
    for (uint32_t i = 0; i < subscriber_count; i++)
        hang_up(&subscribers[i]);
    for (int i = 0; i < 5; i++)
        pump(10); /* the server sees them go */
    begin_phase();
    uint64_t deadline = phase_began_ns + (uint64_t)(timeout_s * 1e9);
    for (uint32_t i = 0; i < subscriber_count; i++) {
        subscribers[i].tries = 0;
        call(&subscribers[i], phase_began_ns);
    }
    while (count.connected + count.refused_connects < subscriber_count
        && now_ns() < deadline)
        pump(100);
    end_phase(seconds_since(phase_began_ns, now_ns()), 0);
}

static void do_wait(double seconds)
{
    begin_phase();
    uint64_t until = phase_began_ns + (uint64_t)(seconds * 1e9);
    while (now_ns() < until)
        pump(polling_ns ? 1 : 20);
    end_phase(seconds_since(phase_began_ns, now_ns()), 0);
}

static char *map_file(const char *path, size_t *bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) < 0)
        die(path);
    *bytes = (size_t)info.st_size;
    char *map = *bytes ? mmap(NULL, *bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0)
                       : NULL;
    if (map == MAP_FAILED)
        die(path);
    close(fd);
    return map;
}

static uint32_t number_at(const char *at)
{
    uint32_t n;
    memcpy(&n, at, sizeof n);
    return n;
}

static void drop_plan(void)
{
    if (plan_map)
        munmap(plan_map, plan_map_bytes);
    free(plan);
    free(plan_by_file);
    plan = NULL;
    plan_by_file = NULL;
    plan_map = NULL;
    memset(plan_size, 0, file_count * sizeof *plan_size);
}

/* Within a plan the seqs of one file have no gaps, so a seq finds its place. */
static void load_plan(const char *path)
{
    drop_plan();
    plan_map = map_file(path, &plan_map_bytes);
    plan_count = plan_next = plan_busy = 0;
    for (size_t at = 0; at < plan_map_bytes; at += 12 + number_at(plan_map + at + 8))
        plan_count++;
    plan = made(plan_count, sizeof *plan);
    plan_by_file = made(plan_count, sizeof *plan_by_file);
    size_t at = 0;
    for (uint32_t i = 0; i < plan_count; i++) {
        struct publication *p = &plan[i];
        p->file = number_at(plan_map + at);
        p->seq = number_at(plan_map + at + 4);
        p->request_bytes = number_at(plan_map + at + 8);
        p->request = plan_map + at + 12;
        at += 12 + p->request_bytes;
        if (p->file >= file_count)
            die("publish: a file nobody subscribes to");
        if (!plan_size[p->file]++)
            plan_base_seq[p->file] = p->seq;
    }
    uint32_t start = 0;
    for (uint32_t file = 0; file < file_count; file++) {
        plan_start[file] = start;
        start += plan_size[file];
    }
    for (uint32_t i = 0; i < plan_count; i++)
        plan_by_file[plan_start[plan[i].file] + plan[i].seq - plan_base_seq[plan[i].file]] = i;
}

/*
 * Hands due publications to free publishers; returns when the next one is due.
 * Who reports on a file waits for an answer before the next report on it.
 */
static uint64_t publish_what_is_due(uint32_t in_flight, double per_second, uint64_t began_ns)
{
    for (uint32_t i = 0; i < in_flight && plan_next < plan_count; i++) {
        struct publisher *p = &publishers[i];
        uint64_t due_ns = 0;
        if (p->state != LIVE)
            continue;
        if (is_busy[plan[plan_next].file])
            return 0;
        if (per_second > 0) {
            due_ns = began_ns + (uint64_t)((double)plan_next * 1e9 / per_second);
            if (due_ns > now_ns())
                return due_ns;
        }
        publish(p, due_ns);
    }
    return 0;
}

static void do_publish(
    const char *path, uint32_t in_flight, double per_second, double send_s, double timeout_s)
{
    load_plan(path);
    set_publishers(in_flight);
    uint64_t patience_ns = now_ns() + GREETING_S * 1000000000ull;
    while (publishers_greeting() && now_ns() < patience_ns)
        pump(10);
    begin_phase();
    is_publishing = 1;
    uint64_t began_ns = phase_began_ns, stop_ns = began_ns + (uint64_t)(send_s * 1e9);
    uint64_t quiet_ns = (uint64_t)(timeout_s * 1e9), moved_ns = began_ns;
    uint64_t moved = 0;
    for (;;) {
        uint64_t now = now_ns(), work = count.delivered + count.answered + count.refused;
        if (work != moved) {
            moved = work;
            moved_ns = now;
        }
        int is_sent = plan_next == plan_count || now >= stop_ns;
        uint64_t due_ns
            = is_sent ? 0 : publish_what_is_due(in_flight, per_second, began_ns);
        if (is_sent && !plan_busy && count.delivered >= expected)
            break;
        if (now - moved_ns > quiet_ns && !due_ns)
            break;
        if (due_ns)
            wake_at(due_ns);
        pump(polling_ns ? 1 : 50);
    }
    uint64_t end = last_delivery_ns > last_answer_ns ? last_delivery_ns : last_answer_ns;
    double seconds = seconds_since(began_ns, end);
    double busy_cpu_s = cpu_s() - phase_cpu_s, busy_s = seconds_since(began_ns, now_ns());
    uint64_t until = now_ns() + (uint64_t)LINGER_MS * 1000000u;
    while (now_ns() < until)
        pump(10);
    /* The share is of the work, not of the silence after it. */
    phase_cpu_s = cpu_s() - busy_cpu_s;
    phase_began_ns = now_ns() - (uint64_t)(busy_s * 1e9);
    is_publishing = 0;
    end_phase(seconds, plan_next);
}

static void do_close(void)
{
    begin_phase();
    for (uint32_t i = 0; i < subscriber_count; i++)
        hang_up(&subscribers[i]);
    end_phase(0, 0);
}

static void obey(char *line)
{
    char path[4096];
    uint32_t a, b, c;
    double x, y, z;
    if (sscanf(line, "open %u %u %u %lf", &a, &b, &c, &x) == 4)
        do_open(a, b, c, x);
    else if (sscanf(line, "publish %4095s %u %lf %lf %lf", path, &a, &x, &y, &z) == 5)
        do_publish(path, a, x, y, z);
    else if (sscanf(line, "wait %lf", &x) == 1)
        do_wait(x);
    else if (sscanf(line, "storm %lf", &x) == 1)
        do_storm(x);
    else if (sscanf(line, "polling %lf", &x) == 1) {
        begin_phase();
        polling_ns = (uint64_t)(x * 1e6);
        polling_began_ns = now_ns();
        polling_asked = 0;
        end_phase(0, 0);
    } else if (!strncmp(line, "close", 5))
        do_close();
    else
        die("a command it does not know");
}

static void load_subscribers(const char *path)
{
    size_t bytes;
    char *map = map_file(path, &bytes);
    for (size_t at = 0; at < bytes; at += 8 + number_at(map + at + 4))
        subscriber_count++;
    subscribers = made(subscriber_count, sizeof *subscribers);
    size_t at = 0;
    for (uint32_t i = 0; i < subscriber_count; i++) {
        struct subscriber *s = &subscribers[i];
        s->fd = -1;
        s->file = number_at(map + at);
        s->request_bytes = number_at(map + at + 4);
        s->request = map + at + 8;
        at += 8 + s->request_bytes;
        if (s->file >= file_count)
            file_count = s->file + 1;
    }
    live_of_file = made(file_count, sizeof *live_of_file);
    known_seq = made(file_count, sizeof *known_seq);
    plan_start = made(file_count, sizeof *plan_start);
    plan_base_seq = made(file_count, sizeof *plan_base_seq);
    plan_size = made(file_count, sizeof *plan_size);
    is_busy = made(file_count, sizeof *is_busy);
}

static enum kind kind_of(const char *word)
{
    static const char *WORDS[] = { "sse", "long-poll", "websocket", "polling" };
    for (int i = 0; i < 4; i++)
        if (!strcmp(word, WORDS[i]))
            return (enum kind)i;
    die("a kind it does not know");
    return SSE;
}

int main(int argc, char **argv)
{
    if (argc != 10) {
        fprintf(stderr,
            "usage: load HOST PORT KIND FIRST_EVENT SUBSCRIBERS HEARTBEAT ACCEPTED"
                        " GREETING PUBLISH_PORT\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)atoi(argv[2]));
    if (inet_pton(AF_INET, argv[1], &server.sin_addr) != 1)
        die(argv[1]);
    kind = kind_of(argv[3]);
    wants_first_event = atoi(argv[4]);
    load_subscribers(argv[5]);
    heartbeat = argv[6];
    accepted = argv[7];
    greeting = argv[8];
    publish_port = htons((uint16_t)atoi(argv[9]));
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    watch(timer_fd, TAG_TIMER, 0, EPOLLIN, EPOLL_CTL_ADD);
    watch(0, TAG_STDIN, 0, EPOLLIN, EPOLL_CTL_ADD);
    setvbuf(stdin, NULL, _IONBF, 0);
    char line[8192];
    for (;;) {
        pump(polling_ns ? 1 : 200);
        if (!stdin_is_ready)
            continue;
        stdin_is_ready = 0;
        if (!fgets(line, sizeof line, stdin))
            return 0;
        obey(line);
    }
}
