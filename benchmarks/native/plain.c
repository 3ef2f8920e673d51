/* The reference that the benchmarks compare with: Server-Sent Events as plainly as C allows.
 *
 *   plain unix:PATH | plain ADDRESS:PORT
 *
 * One epoll loop. GET (any path) opens a stream; the body of a POST (any path) becomes one event, is framed once, and goes
 * to every stream by one send() each. No history, no ids, no topics, no keepalive. A stream that cannot take a whole frame
 * at once is closed: the client notices, and the measurement is void. Requests must be complete within REQUEST_BYTES.
 * Prints "ready" when it listens; ends on TERM or INT.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { EVENTS = 1024, REQUEST_BYTES = 8192 };

static const char STREAM_HEAD[] =
    "HTTP/1.1 200 OK\r\n"
    "Content-Type: text/event-stream\r\n"
    "Cache-Control: no-cache, no-store\r\n"
    "Connection: close\r\n\r\n";
static const char ACCEPTED[] = "HTTP/1.1 204 No Content\r\n\r\n";
static const char REFUSED[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/* What a connection is. A request in pieces waits in `bytes`; a stream needs none. */
typedef struct {
    char *bytes;
    int used;
    int place; /* in `streams`, or -1 */
} Connection;

static Connection *connections; /* by descriptor */
static int *streams;            /* descriptors, in no order */
static int stream_count;
static int limit;
static int poller;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int listen_at(const char *address)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in inet = {.sin_family = AF_INET};
    int fd, yes = 1;

    if (strncmp(address, "unix:", 5) == 0) {
        if (strlen(address + 5) >= sizeof local.sun_path) {
            fprintf(stderr, "the path of a unix socket has at most %zu bytes\n", sizeof local.sun_path - 1);
            exit(2);
        }
        strcpy(local.sun_path, address + 5);
        unlink(local.sun_path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *)&local, sizeof local) < 0) die(address);
    } else {
        char host[64];
        const char *colon = strrchr(address, ':');
        if (colon == NULL || colon - address >= (long)sizeof host) {
            fprintf(stderr, "%s is neither unix:PATH nor ADDRESS:PORT\n", address);
            exit(2);
        }
        memcpy(host, address, (size_t)(colon - address));
        host[colon - address] = 0;
        inet.sin_port = htons((unsigned short)atoi(colon + 1));
        if (inet_pton(AF_INET, host, &inet.sin_addr) != 1) {
            fprintf(stderr, "%s is no IPv4 address\n", host);
            exit(2);
        }
        fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) die("socket");
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        if (bind(fd, (struct sockaddr *)&inet, sizeof inet) < 0) die(address);
    }
    if (listen(fd, 4096) < 0) die("listen");
    return fd;
}

static void watch(int fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = fd};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
}

static void end(int fd)
{
    Connection *connection = &connections[fd];
    if (connection->place >= 0) {
        int last = streams[--stream_count];
        streams[connection->place] = last;
        connections[last].place = connection->place;
    }
    free(connection->bytes);
    connection->bytes = NULL;
    close(fd);
}

static void accept_all(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN || errno == ECONNABORTED) return;
            die("accept");
        }
        connections[fd] = (Connection){.place = -1};
        watch(fd);
    }
}

static void publish(const char *body, int size)
{
    static char frame[REQUEST_BYTES + 16];
    int length = 0;

    memcpy(frame, "data: ", 6);
    memcpy(frame + 6, body, (size_t)size);
    length = 6 + size;
    frame[length++] = '\n';
    frame[length++] = '\n';
    for (int i = 0; i < stream_count; i++) {
        /* Only shut down: it is closed when its own hangup is read, so that this list stays as it is meanwhile. */
        if (send(streams[i], frame, (size_t)length, MSG_NOSIGNAL) != length) shutdown(streams[i], SHUT_RDWR);
    }
}

/* The size of the body that the head announces; 0 without one, -1 for nonsense. `head` ends with a NUL. */
static int body_size(const char *head)
{
    const char *line = head;
    while ((line = strstr(line, "\r\n")) != NULL) {
        line += 2;
        if (strncasecmp(line, "Content-Length:", 15) == 0) {
            long size = strtol(line + 15, NULL, 10);
            return size < 0 || size > REQUEST_BYTES ? -1 : (int)size;
        }
    }
    return 0;
}

static void answer(int fd, const char *text, size_t size)
{
    if (send(fd, text, size, MSG_NOSIGNAL) != (ssize_t)size) shutdown(fd, SHUT_RDWR);
}

/* One complete request at the start of `bytes`. Returns the number of bytes it took, 0 if it is not complete, -1 to close. */
static int serve(int fd, char *bytes, int used)
{
    char *end_of_head, kept;
    int size, taken;

    end_of_head = memmem(bytes, (size_t)used, "\r\n\r\n", 4);
    if (end_of_head == NULL) return used == REQUEST_BYTES ? -1 : 0;
    kept = end_of_head[2];
    end_of_head[2] = 0;
    size = body_size(bytes);
    end_of_head[2] = kept;
    taken = (int)(end_of_head - bytes) + 4 + size;
    if (size < 0 || taken > REQUEST_BYTES) {
        answer(fd, REFUSED, sizeof REFUSED - 1);
        return -1;
    }
    if (taken > used) return 0;
    if (strncmp(bytes, "POST ", 5) == 0) {
        /* The answer last, as with a server that says 204 when the event is out. */
        publish(end_of_head + 4, size);
        answer(fd, ACCEPTED, sizeof ACCEPTED - 1);
    } else if (strncmp(bytes, "GET ", 4) == 0) {
        answer(fd, STREAM_HEAD, sizeof STREAM_HEAD - 1);
        connections[fd].place = stream_count;
        streams[stream_count++] = fd;
    } else {
        answer(fd, REFUSED, sizeof REFUSED - 1);
        return -1;
    }
    return taken;
}

static void read_from(int fd)
{
    static char bytes[REQUEST_BYTES + 1];
    Connection *connection = &connections[fd];
    ssize_t count;
    int used = connection->used, at = 0, taken = 0;

    if (used) memcpy(bytes, connection->bytes, (size_t)used);
    count = recv(fd, bytes + used, (size_t)(REQUEST_BYTES - used), 0);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
        end(fd);
        return;
    }
    if (connection->place >= 0) return; /* what a stream's client says is of no interest */
    used += (int)count;
    bytes[used] = 0;
    while (at < used && connection->place < 0 && (taken = serve(fd, bytes + at, used - at)) > 0) at += taken;
    if (taken < 0) {
        end(fd);
        return;
    }
    if (connection->place >= 0) at = used;
    connection->used = used - at;
    if (connection->used) {
        if (connection->bytes == NULL && (connection->bytes = malloc(REQUEST_BYTES)) == NULL) die("malloc");
        memcpy(connection->bytes, bytes + at, (size_t)connection->used);
    } else if (connection->place >= 0) {
        free(connection->bytes);
        connection->bytes = NULL;
    }
}

int main(int count, char **arguments)
{
    static struct epoll_event events[EVENTS];
    struct rlimit files;
    int listener;

    if (count != 2) {
        fprintf(stderr, "usage: plain unix:PATH | ADDRESS:PORT\n");
        return 2;
    }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    limit = files.rlim_max > 1 << 20 ? 1 << 20 : (int)files.rlim_max;
    files.rlim_cur = (rlim_t)limit;
    setrlimit(RLIMIT_NOFILE, &files);
    connections = calloc((size_t)limit, sizeof *connections);
    streams = calloc((size_t)limit, sizeof *streams);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (connections == NULL || streams == NULL || poller < 0) die("start");
    signal(SIGPIPE, SIG_IGN);
    listener = listen_at(arguments[1]);
    watch(listener);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener)
                accept_all(listener);
            else
                read_from(events[i].data.fd);
        }
    }
}
