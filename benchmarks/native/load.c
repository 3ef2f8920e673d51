/* The client of the benchmarks: holds N event streams open, publishes over HTTP, and counts what arrives.
 *
 *   load --connect unix:PATH|ADDRESS:PORT --streams N [--path /events] [--publish-path /publish] [--topic NAME]
 *        [--publish-connect ADDRESS] [--publish-before TEXT --publish-after TEXT] [--publishers N] [--window N]
 *        [--pids A,B,..] [--heads FILE] [--again N]
 *
 * Opens the streams, at most `window` of them awaiting their heads at a time, prints a line with "connect_seconds", and
 * then takes commands from standard input, one a line, and answers each with one line of JSON:
 *
 *   flight:W:SECONDS   at most W publishes that are not yet delivered everywhere
 *   burst:B:SECONDS    B publishes at once, each over a connection of its own; again when all are delivered to all
 *   batch:B:SECONDS    B publishes in one request, as ndjson; again when all are delivered to all (needs --topic)
 *   rate:HZ:SECONDS    HZ publishes a second, whatever becomes of them; latency from when each was due
 *   listen:N:0         none: N events that somebody else publishes, numbered on from those before; a line with "listening"
 *                      says that they may come
 *   idle:0:SECONDS     none
 *
 * The end of standard input ends it. With --topic a publish is {"topic":NAME,"data":PAYLOAD} as application/json, with
 * --publish-before and --publish-after it is the payload between these two, as application/json too, and else the payload
 * itself. A payload has PAYLOAD bytes and ends with '#', its number and the time at which it was due.
 * --publish-connect is for a server that takes publishes elsewhere. --heads is a file with a line for each stream: header
 * fields that its request has beside the usual ones, with "|" between two of them. --again: while streams are opened, so
 * many whose connection is closed may be opened anew, as a browser does; the first line says how many were, "again".
 *
 * A phase fails, and the program with it, when a stream ends, when a publish is refused, when nothing arrives for
 * STALL_SECONDS, or when a stream did not get each event exactly once: figures of such a phase would mean nothing.
 *
 * CPU time is that of the whole processes in --pids (all threads, those that ended included), in nanoseconds, read by this
 * program at both ends of a phase.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    PAYLOAD = 100,
    NUMBER_DIGITS = 10,
    TIME_DIGITS = 19,
    STAMP = 1 + NUMBER_DIGITS + TIME_DIGITS, /* the payload's end */
    STAMPED = STAMP + 2,                     /* with the two line ends that complete the event */
    READ_BYTES = 1 << 18,
    EVENTS = 2048,
    RING = 1 << 14, /* publishes under way, more than any phase may have */
    REQUEST = 2048,
    MOST_BATCH = 1000,
    ANSWER = 1 << 17, /* a receipt for each event of the largest batch */
    STREAMS_A_SOURCE = 20000, /* a source address has about 28,000 ports */
    MOST_PUBLISHERS = 256,
    MOST_PIDS = 64,
    STALL_SECONDS = 20,
};

#define SECOND 1000000000ULL

/* A stream. Its head or a stamp that came in pieces waits in `carry`. */
typedef struct {
    uint64_t count, sum; /* of the events of this phase, and of their numbers: each came once if both are right */
    int fd;
    unsigned char open, carried, chunked;
    int chunk_size, chunk_left; /* of a chunked body: the size that is being read, and what is left with its line end */
    char carry[STAMPED];
} Stream;

/* A keep-alive connection with at most one request on its way. */
typedef struct {
    int fd, busy, used;
    char answer[ANSWER];
} Publisher;

/* What epoll says of a descriptor: tag in the upper half, index in the lower. */
enum { TAG_STREAM, TAG_PUBLISHER, TAG_TIMER, TAG_INPUT };

static const char *target, *path = "/events", *publish_path = "/publish", *topic;
static const char *publish_target, *publish_before, *publish_after = "";
static int stream_total, publisher_total = 32, window = 128;
static FILE *heads;
static int again_most, again; /* streams that ended while others were opened, and were opened anew */
static int pids[MOST_PIDS], pid_total;

static Stream *streams;
static Publisher publishers[MOST_PUBLISHERS];
static int poller, timer, connected;

static uint64_t next_number;         /* of the next publish */
static uint64_t first_number;        /* of this phase */
static uint64_t requested, answered; /* requests to publish */
static uint64_t arrived[RING];       /* streams that have it, by number modulo RING */
static uint64_t complete;            /* publishes that all streams have */
static uint64_t deliveries, ends, received_bytes;

/* Latencies in a log-linear histogram: 64 steps to each power of two of nanoseconds, so at most 1.6 % wide. */
enum { STEPS = 64, BUCKETS = 40 * STEPS };
static uint64_t histogram[BUCKETS], latency_max;
static int timing;

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) fail("no memory");
    return memory;
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

/* ---- what the system says of the servers ---- */

static uint64_t server_cpu(void)
{
    uint64_t total = 0;
    for (int i = 0; i < pid_total; i++) {
        clockid_t clock;
        struct timespec time;
        if (clock_getcpuclockid(pids[i], &clock) != 0 || clock_gettime(clock, &time) != 0)
            fail("process %d is gone", pids[i]);
        total += (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
    }
    return total;
}

static uint64_t own_cpu(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

/* The anonymous resident memory of the servers, in KiB. */
static long server_memory(void)
{
    long total = 0, one;
    for (int i = 0; i < pid_total; i++) {
        char name[64], line[256];
        FILE *status;
        snprintf(name, sizeof name, "/proc/%d/status", pids[i]);
        status = fopen(name, "r");
        if (status == NULL) fail("process %d is gone", pids[i]);
        while (fgets(line, sizeof line, status) != NULL)
            if (sscanf(line, "RssAnon: %ld", &one) == 1) total += one;
        fclose(status);
    }
    return total;
}

/* ---- connections ---- */

static void control(int operation, int fd, int tag, int index, uint32_t interest)
{
    struct epoll_event event = {.events = interest, .data.u64 = (uint64_t)tag << 32 | (uint32_t)index};
    if (epoll_ctl(poller, operation, fd, &event) < 0) fail("epoll_ctl: %s", strerror(errno));
}

static void watch(int fd, int tag, int index, uint32_t interest)
{
    control(EPOLL_CTL_ADD, fd, tag, index, interest);
}

/* A connected, non-blocking socket, or -1 if the server's queue is full. `source` numbers our own address. */
static int dial(const char *target, int source)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in inet = {.sin_family = AF_INET}, own = {.sin_family = AF_INET};
    int fd, yes = 1, result;

    if (strncmp(target, "unix:", 5) == 0) {
        if (strlen(target + 5) >= sizeof local.sun_path) fail("the path of the socket is too long");
        strcpy(local.sun_path, target + 5);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) fail("socket: %s", strerror(errno));
        result = connect(fd, (struct sockaddr *)&local, sizeof local);
        if (result < 0 && errno == EAGAIN) {
            close(fd);
            return -1;
        }
    } else {
        char host[64];
        const char *colon = strrchr(target, ':');
        if (colon == NULL || colon - target >= (long)sizeof host) fail("%s is no address", target);
        memcpy(host, target, (size_t)(colon - target));
        host[colon - target] = 0;
        inet.sin_port = htons((uint16_t)atoi(colon + 1));
        if (inet_pton(AF_INET, host, &inet.sin_addr) != 1) fail("%s is no IPv4 address", host);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0) fail("socket: %s", strerror(errno));
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (source > 0) {
            setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
            own.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)source);
            if (bind(fd, (struct sockaddr *)&own, sizeof own) < 0) fail("bind: %s", strerror(errno));
        }
        result = connect(fd, (struct sockaddr *)&inet, sizeof inet);
    }
    if (result < 0) fail("%s: %s", target, strerror(errno));
    return fd;
}

static void send_all(int fd, const char *bytes, int size)
{
    /* All but batches are far smaller than a socket's buffer, and go out at once. */
    while (size > 0) {
        struct pollfd room = {.fd = fd, .events = POLLOUT};
        ssize_t sent = send(fd, bytes, (size_t)size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) fail("a request could not be sent: %s", strerror(errno));
        if (sent > 0) {
            bytes += sent;
            size -= (int)sent;
        } else if (poll(&room, 1, STALL_SECONDS * 1000) == 0) {
            fail("a request could not be sent: the server does not read");
        }
    }
}

/* ---- streams ---- */

static void note_latency(uint64_t nanoseconds, uint64_t count)
{
    int power, bucket;
    if (nanoseconds < STEPS) nanoseconds = STEPS;
    if (nanoseconds > latency_max) latency_max = nanoseconds;
    power = 63 - __builtin_clzll(nanoseconds);
    bucket = (power - 6) * STEPS + (int)((nanoseconds >> (power - 6)) - STEPS);
    histogram[bucket < BUCKETS ? bucket : BUCKETS - 1] += count;
}

static double latency_us(double share)
{
    uint64_t total = 0, seen = 0;
    for (int i = 0; i < BUCKETS; i++) total += histogram[i];
    for (int i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        /* the middle of the bucket */
        if (total && (double)seen >= share * (double)total)
            return (STEPS + i % STEPS + 0.5) * (double)(1ULL << (i / STEPS)) / 1000.0;
    }
    return 0;
}

static uint64_t digits(const char *text, int count)
{
    uint64_t value = 0;
    for (int i = 0; i < count; i++) value = value * 10 + (uint64_t)(text[i] - '0');
    return value;
}

/* Count the complete events in `bytes`; keep what may be the beginning of a stamp. */
static void count_events(Stream *stream, const char *bytes, int size)
{
    const char *at = bytes, *end = bytes + size;
    uint64_t time = 0;

    while ((at = memchr(at, '#', (size_t)(end - at))) != NULL) {
        uint64_t number;
        if (end - at < STAMPED) {
            stream->carried = (unsigned char)(end - at);
            memcpy(stream->carry, at, stream->carried);
            return;
        }
        if (at[STAMP] != '\n' || at[STAMP + 1] != '\n') fail("an event does not end where it should");
        number = digits(at + 1, NUMBER_DIGITS);
        if (number >= next_number || number < first_number) fail("event %llu came unasked", (unsigned long long)number);
        stream->count++;
        stream->sum += number;
        deliveries++;
        if (++arrived[number % RING] == (uint64_t)stream_total) {
            arrived[number % RING] = 0;
            if (++complete > next_number) fail("events came more than once");
        }
        if (timing) {
            if (time == 0) time = now();
            note_latency(time - digits(at + 1 + NUMBER_DIGITS, TIME_DIGITS), 1);
        }
        at += STAMPED;
    }
}

/* Remove the chunked coding (RFC 9112, section 7.1), which a proxy adds, in place; return how many bytes are left. */
static int unchunk(Stream *stream, char *bytes, int size)
{
    char *to = bytes, *at = bytes, *end = bytes + size;

    while (at < end) {
        if (stream->chunk_left > 2) {
            int part = stream->chunk_left - 2 < end - at ? stream->chunk_left - 2 : (int)(end - at);
            memmove(to, at, (size_t)part);
            to += part;
            at += part;
            stream->chunk_left -= part;
        } else if (stream->chunk_left > 0) {
            at++;
            stream->chunk_left--;
        } else if (*at == '\n') {
            if (stream->chunk_size == 0) fail("a stream ended");
            stream->chunk_left = stream->chunk_size + 2;
            stream->chunk_size = 0;
            at++;
        } else {
            char digit = *at++;
            if (digit >= '0' && digit <= '9')
                stream->chunk_size = stream->chunk_size * 16 + digit - '0';
            else if ((digit | 32) >= 'a' && (digit | 32) <= 'f')
                stream->chunk_size = stream->chunk_size * 16 + (digit | 32) - 'a' + 10;
            else if (digit != '\r')
                fail("a chunk's size is no number");
        }
    }
    return (int)(to - bytes);
}

static int reopen(int index);

static void take_head(Stream *stream, char *bytes, int size)
{
    static const char ok[] = "HTTP/1.1 200 ", chunked[] = "\r\nTransfer-Encoding: chunked\r\n";
    /* Servers write a head in one piece, and the first bytes of the body with it or after it. */
    char *end = memmem(bytes, (size_t)size, "\r\n\r\n", 4);
    if (size < (int)sizeof ok || memcmp(bytes, ok, sizeof ok - 1) != 0 || end == NULL)
        fail("a stream was answered with: %.*s", size < 300 ? size : 300, bytes);
    /* What nginx says in the service's place: it ends at once. */
    if (memmem(bytes, (size_t)(end - bytes), "\r\nContent-Length:", 17) != NULL) fail("a stream was sent away");
    if (memmem(bytes, (size_t)(end + 2 - bytes), chunked, sizeof chunked - 1) != NULL) {
        stream->chunked = 1;
        unchunk(stream, end + 4, (int)(bytes + size - end) - 4);
    }
    stream->open = 1;
    connected++;
}

static void read_stream(int index)
{
    static char buffer[STAMPED + READ_BYTES];
    Stream *stream = &streams[index];

    for (;;) {
        char *bytes = buffer + STAMPED - stream->carried;
        ssize_t count = recv(stream->fd, buffer + STAMPED, READ_BYTES, 0);
        if (count < 0 && errno == EAGAIN) return;
        if (count <= 0) {
            if (reopen(index)) return;
            if (!stream->open) fail("a stream was closed without an answer");
            ends++;
            close(stream->fd);
            stream->fd = -1;
            return;
        }
        received_bytes += (uint64_t)count;
        if (!stream->open) {
            take_head(stream, bytes, (int)count);
        } else {
            int size = stream->chunked ? unchunk(stream, buffer + STAMPED, (int)count) : (int)count;
            size += stream->carried;
            memcpy(bytes, stream->carry, stream->carried);
            stream->carried = 0;
            count_events(stream, bytes, size);
        }
        /* Edge-triggered: a short read has emptied the socket, and what comes later is a new edge. */
        if (count < READ_BYTES) return;
    }
}

/* ---- publishing ---- */

static void open_publisher(int index)
{
    Publisher *publisher = &publishers[index];
    /* One at a time and accepted at once: the server's queue is full for a moment at most. */
    while ((publisher->fd = dial(publish_target ? publish_target : target, 0)) < 0) usleep(1000);
    publisher->used = 0;
    watch(publisher->fd, TAG_PUBLISHER, index, EPOLLIN);
}

/* Write the next publish as a payload, or with --topic as an object of JSON; return its size. */
static int write_event(char *to, size_t room, uint64_t due)
{
    char payload[PAYLOAD + 1];
    int size;

    memset(payload, '.', PAYLOAD);
    snprintf(payload + PAYLOAD - STAMP, STAMP + 1, "#%010llu%019llu", (unsigned long long)next_number,
             (unsigned long long)due);
    if (topic != NULL)
        size = snprintf(to, room, "{\"topic\":\"%s\",\"data\":\"%s\"}", topic, payload);
    else if (publish_before != NULL)
        size = snprintf(to, room, "%s%s%s", publish_before, payload, publish_after);
    else
        size = snprintf(to, room, "%s", payload);
    if (size >= (int)room) fail("what stands around the payload is too long");
    if (next_number - complete >= RING) fail("more than %d publishes under way", RING);
    next_number++;
    return size;
}

static void post(Publisher *publisher, const char *type, const char *body, int size)
{
    static char request[REQUEST * (MOST_BATCH + 1)];

    size = snprintf(request, sizeof request,
                    "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", publish_path,
                    type, size, body);
    if (size >= (int)sizeof request) fail("--publish-path is too long");
    publisher->busy = 1;
    requested++;
    /* Only now: under gunicorn a connection that says nothing holds a thread for 5 s. */
    if (publisher->fd < 0) open_publisher((int)(publisher - publishers));
    send_all(publisher->fd, request, size);
}

static void publish(Publisher *publisher, uint64_t due)
{
    static char body[REQUEST];
    int size = write_event(body, sizeof body, due);

    post(publisher, topic != NULL || publish_before != NULL ? "application/json" : "text/plain", body, size);
}

static void publish_batch(Publisher *publisher, int count, uint64_t due)
{
    static char body[REQUEST * MOST_BATCH];
    int size = 0;

    for (int i = 0; i < count; i++) {
        size += write_event(body + size, REQUEST - 1, due);
        body[size++] = '\n';
    }
    body[size] = 0;
    post(publisher, "application/x-ndjson", body, size);
}

static void read_publisher(int index)
{
    Publisher *publisher = &publishers[index];
    char *end, *field;
    int size;
    ssize_t count = recv(publisher->fd, publisher->answer + publisher->used,
                         sizeof publisher->answer - 1 - (size_t)publisher->used, 0);

    if (count < 0 && errno == EAGAIN) return;
    if (count == 0 && !publisher->busy) {
        /* Idle for longer than the server keeps a connection. */
        close(publisher->fd);
        publisher->fd = -1;
        return;
    }
    if (count <= 0) fail("a publish was not answered");
    publisher->used += (int)count;
    publisher->answer[publisher->used] = 0;
    end = strstr(publisher->answer, "\r\n\r\n");
    if (end == NULL) return;
    if (strncmp(publisher->answer, "HTTP/1.1 2", 10) != 0) fail("a publish was answered with: %s", publisher->answer);
    field = strcasestr(publisher->answer, "\r\nContent-Length:");
    size = field != NULL && field < end ? atoi(field + 17) : 0;
    if (end + 4 + size > publisher->answer + publisher->used) return;
    publisher->used = 0;
    publisher->busy = 0;
    answered++;
    field = strcasestr(publisher->answer, "\r\nConnection: close");
    if (field != NULL && field < end) {
        close(publisher->fd);
        publisher->fd = -1;
    }
}

static Publisher *free_publisher(void)
{
    for (int i = 0; i < publisher_total; i++)
        if (!publishers[i].busy) return &publishers[i];
    return NULL;
}

/* ---- the loop ---- */

static int input_ready;

static void turn(int milliseconds)
{
    static struct epoll_event events[EVENTS];
    int ready = epoll_wait(poller, events, EVENTS, milliseconds);

    if (ready < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < ready; i++) {
        int index = (int)(uint32_t)events[i].data.u64;
        uint64_t ticks;
        switch (events[i].data.u64 >> 32) {
        case TAG_STREAM: read_stream(index); break;
        case TAG_PUBLISHER: read_publisher(index); break;
        case TAG_TIMER: (void)!read(timer, &ticks, sizeof ticks); break;
        case TAG_INPUT: input_ready = 1; break;
        }
    }
}

static void wake_at(uint64_t time)
{
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(time / SECOND), .tv_nsec = (long)(time % SECOND)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* The request for the next stream; return its size. */
static int stream_request(char *request)
{
    int size = snprintf(request, REQUEST, "GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n", path);
    char line[REQUEST], *rest = line, *field;

    if (heads != NULL) {
        if (fgets(line, sizeof line, heads) == NULL) fail("--heads has fewer lines than there are streams");
        line[strcspn(line, "\n")] = 0;
        while (size < REQUEST && (field = strsep(&rest, "|")) != NULL && *field)
            size += snprintf(request + size, (size_t)(REQUEST - size), "%s\r\n", field);
    }
    if (size + 2 >= REQUEST) fail("the head of a request is too long");
    memcpy(request + size, "\r\n", 2);
    return size + 2;
}

static int source_of(int index)
{
    return stream_total > STREAMS_A_SOURCE ? index / STREAMS_A_SOURCE : 0;
}

/* Open a stream that has ended anew, if that is allowed; return whether it was. */
static int reopen(int index)
{
    Stream *stream = &streams[index];
    char request[REQUEST];

    if (again == again_most || connected == stream_total) return 0;
    again++;
    connected -= stream->open;
    close(stream->fd);
    memset(stream, 0, sizeof *stream);
    while ((stream->fd = dial(target, source_of(index))) < 0) usleep(1000);
    send_all(stream->fd, request, stream_request(request));
    watch(stream->fd, TAG_STREAM, index, EPOLLIN | EPOLLRDHUP | EPOLLET);
    return 1;
}

static void open_streams(void)
{
    char request[REQUEST];
    uint64_t start = now(), last = start;
    int dialled = 0, before = 0;

    while (connected < stream_total) {
        while (dialled < stream_total && dialled - connected < window) {
            int fd = dial(target, source_of(dialled));
            if (fd < 0) break; /* the queue is full: read on meanwhile */
            streams[dialled].fd = fd;
            send_all(fd, request, stream_request(request));
            watch(fd, TAG_STREAM, dialled, EPOLLIN | EPOLLRDHUP | EPOLLET);
            dialled++;
        }
        /* With nothing awaited no answer would wake us when the queue has room again. */
        turn(dialled == connected ? 1 : 1000);
        if (connected != before) last = now();
        before = connected;
        if (now() - last > STALL_SECONDS * SECOND) fail("%d of %d streams were answered", connected, stream_total);
        if (ends) fail("a stream ended while others were opened");
    }
    printf("{\"streams\": %d, \"connect_seconds\": %.6f, \"again\": %d}\n", stream_total, (double)(now() - start) / 1e9,
           again);
    fflush(stdout);
}

/* Publish what the phase asks for at this moment. */
static void pump(const char *kind, double parameter, uint64_t start, int accepting, uint64_t *published)
{
    Publisher *publisher;
    uint64_t under_way = next_number - complete, time = now();

    if (!accepting) return;
    if (strcmp(kind, "flight") == 0) {
        for (; under_way < (uint64_t)parameter && (publisher = free_publisher()) != NULL; under_way++, ++*published)
            publish(publisher, time);
    } else if (strcmp(kind, "burst") == 0) {
        if (under_way || answered != requested) return;
        for (int i = 0; i < (int)parameter; i++, ++*published) publish(&publishers[i], time);
    } else if (strcmp(kind, "batch") == 0) {
        if (under_way || answered != requested) return;
        publish_batch(&publishers[0], (int)parameter, time);
        *published += (uint64_t)parameter;
    } else if (strcmp(kind, "rate") == 0) {
        for (;;) {
            uint64_t due = start + (uint64_t)((double)*published * 1e9 / parameter);
            if (due > time || (publisher = free_publisher()) == NULL) {
                /* Without a free connection the publish is late, which its latency says: it counts from when it was due. */
                if (due > time) wake_at(due);
                return;
            }
            publish(publisher, due);
            ++*published;
        }
    }
}

static void phase(const char *kind, double parameter, double seconds)
{
    uint64_t start, stop, last, end, cpu, own, published = 0, first = first_number = next_number, sum, before, wrong = 0, bytes;

    timing = strcmp(kind, "rate") == 0 || strcmp(kind, "listen") == 0;
    memset(histogram, 0, sizeof histogram);
    latency_max = deliveries = 0;
    for (int i = 0; i < stream_total; i++) streams[i].count = streams[i].sum = 0;
    bytes = received_bytes;
    cpu = server_cpu();
    own = own_cpu();
    start = last = now();
    stop = start + (uint64_t)(seconds * 1e9);
    if (strcmp(kind, "listen") == 0) {
        next_number += published = (uint64_t)parameter;
        printf("{\"listening\": %llu}\n", (unsigned long long)next_number);
        fflush(stdout);
    }
    for (;;) {
        uint64_t time = now();
        int accepting = time < stop;
        pump(kind, parameter, start, accepting, &published);
        if (!accepting && complete == next_number && answered == requested) break;
        if (ends) fail("%llu streams ended", (unsigned long long)ends);
        before = deliveries + answered;
        turn(accepting ? (int)((stop - time) / 1000000) + 1 : 100);
        if (before != deliveries + answered || accepting) last = now();
        if (now() - last > STALL_SECONDS * SECOND || now() > stop + 60 * SECOND)
            fail("%s:%g came to a stop: %llu of %llu publishes delivered to all", kind, parameter,
                 (unsigned long long)(complete - first), (unsigned long long)published);
    }
    end = now();
    cpu = server_cpu() - cpu;
    own = own_cpu() - own;
    if (published == 0 && strcmp(kind, "idle") != 0) fail("%s:%g published nothing", kind, parameter);
    sum = published * first + published * (published - (published > 0)) / 2;
    for (int i = 0; i < stream_total; i++) wrong += streams[i].count != published || streams[i].sum != sum;
    if (wrong) fail("%llu streams did not get each event once", (unsigned long long)wrong);
    printf("{\"phase\": \"%s\", \"parameter\": %g, \"publishes\": %llu, \"deliveries\": %llu, \"seconds\": %.6f, "
           "\"server_cpu_ns\": %llu, \"client_cpu_ns\": %llu, \"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, "
           "\"bytes\": %llu, \"disconnects\": %llu, \"rss_anon_kib\": %ld}\n",
           kind, parameter, (unsigned long long)published, (unsigned long long)deliveries, (double)(end - start) / 1e9,
           (unsigned long long)cpu, (unsigned long long)own, latency_us(0.50), latency_us(0.99), (double)latency_max / 1000.0,
           (unsigned long long)(received_bytes - bytes), (unsigned long long)ends, server_memory());
    fflush(stdout);
}

static void obey(char *line)
{
    char kind[16];
    double parameter, seconds;

    if (sscanf(line, "%15[a-z]:%lf:%lf", kind, &parameter, &seconds) != 3 || seconds < 0 || seconds > 3600)
        fail("not a phase: %s", line);
    if (strcmp(kind, "flight") == 0) {
        if (parameter < 1 || parameter > publisher_total) fail("flight takes 1 to %d publishes", publisher_total);
    } else if (strcmp(kind, "burst") == 0) {
        if (parameter < 1 || parameter > publisher_total) fail("burst takes 1 to %d publishes", publisher_total);
    } else if (strcmp(kind, "batch") == 0) {
        if (topic == NULL) fail("batch needs --topic");
        if (parameter < 1 || parameter > MOST_BATCH) fail("batch takes 1 to %d publishes", MOST_BATCH);
    } else if (strcmp(kind, "rate") == 0) {
        if (!(parameter > 0 && parameter <= 1e6)) fail("rate takes publishes a second");
    } else if (strcmp(kind, "listen") == 0) {
        if (parameter < 1 || parameter >= RING) fail("listen takes 1 to %d events", RING - 1);
    } else if (strcmp(kind, "idle") != 0) {
        fail("not a phase: %s", line);
    }
    phase(kind, parameter, seconds);
}

/* Whole lines of standard input, each a command. Returns 0 at its end. */
static int read_input(void)
{
    static char text[4096];
    static size_t used;
    char *end;
    ssize_t count = read(STDIN_FILENO, text + used, sizeof text - 1 - used);

    if (count <= 0) return 0;
    used += (size_t)count;
    text[used] = 0;
    while ((end = strchr(text, '\n')) != NULL) {
        *end = 0;
        obey(text);
        used -= (size_t)(end + 1 - text);
        memmove(text, end + 1, used + 1);
    }
    if (used == sizeof text - 1) fail("a command is too long");
    return 1;
}

static int number_of(const char *name, const char *value, int least, int most)
{
    char *end;
    long number = strtol(value, &end, 10);
    if (*end || end == value || number < least || number > most) fail("%s takes %d to %d, not %s", name, least, most, value);
    return (int)number;
}

static void parse(int count, char **arguments)
{
    for (int i = 1; i < count; i += 2) {
        const char *name = arguments[i], *value = arguments[i + 1];
        if (value == NULL) fail("%s takes a value", name);
        if (strcmp(name, "--connect") == 0) target = value;
        else if (strcmp(name, "--path") == 0) path = value;
        else if (strcmp(name, "--publish-path") == 0) publish_path = value;
        else if (strcmp(name, "--publish-connect") == 0) publish_target = value;
        else if (strcmp(name, "--publish-before") == 0) publish_before = value;
        else if (strcmp(name, "--publish-after") == 0) publish_after = value;
        else if (strcmp(name, "--topic") == 0) topic = value;
        else if (strcmp(name, "--heads") == 0) {
            if ((heads = fopen(value, "r")) == NULL) fail("%s: %s", value, strerror(errno));
        }
        else if (strcmp(name, "--streams") == 0) stream_total = number_of(name, value, 1, 1000000);
        else if (strcmp(name, "--publishers") == 0) publisher_total = number_of(name, value, 1, MOST_PUBLISHERS);
        else if (strcmp(name, "--again") == 0) again_most = number_of(name, value, 0, 1000000);
        else if (strcmp(name, "--window") == 0) window = number_of(name, value, 1, 1000000);
        else if (strcmp(name, "--pids") == 0) {
            char *list = strdup(value), *rest = list, *one;
            while ((one = strsep(&rest, ",")) != NULL) {
                if (pid_total == MOST_PIDS) fail("--pids takes at most %d", MOST_PIDS);
                pids[pid_total++] = number_of(name, one, 1, 1 << 30);
            }
            free(list);
        } else fail("no option is called %s", name);
    }
    if (target == NULL || stream_total == 0) fail("--connect and --streams are needed");
    if (heads != NULL && again_most != 0) fail("--heads has no line for a stream that is opened anew");
}

int main(int count, char **arguments)
{
    struct rlimit files;

    parse(count, arguments);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if ((rlim_t)stream_total + (rlim_t)publisher_total + 16 > files.rlim_max)
        fail("%d streams need more than the %llu open files allowed", stream_total, (unsigned long long)files.rlim_max);
    streams = allocate((size_t)stream_total, sizeof *streams);
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (poller < 0 || timer < 0) fail("start: %s", strerror(errno));
    watch(timer, TAG_TIMER, 0, EPOLLIN);
    open_streams();
    for (int i = 0; i < publisher_total; i++) publishers[i].fd = -1;
    /* Once, and again when it was read: its end, or a command that waits, would make each turn of a phase return at once. */
    watch(STDIN_FILENO, TAG_INPUT, 0, EPOLLIN | EPOLLONESHOT);
    for (;;) {
        turn(-1);
        if (ends) fail("%llu streams ended", (unsigned long long)ends);
        if (!input_ready) continue;
        input_ready = 0;
        if (!read_input()) return 0;
        control(EPOLL_CTL_MOD, STDIN_FILENO, TAG_INPUT, 0, EPOLLIN | EPOLLONESHOT);
    }
}
