/*
 * The reading half of the load generator (reader.py): one call reads every socket that is ready,
 * counts events by a marker in their bytes, answers pings and notes how old sampled events are.
 * What it costs is the read itself and two looks for one byte.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#define MAX_READY 1024
#define MAX_MARKER 64
#define READ (1 << 18)
#define PING 0x89
#define PONG 0x8A

static const char published[] = "\"at\":";

struct client {
    long events;
    int sampled;
    /* The end of the last read, where it may be the beginning of a marker. */
    int kept;
    char tail[MAX_MARKER];
};

struct reader {
    int epoll;
    size_t marked;
    char marker[MAX_MARKER];
    struct client *clients; /* by descriptor */
    int room;
    char buffer[MAX_MARKER + READ + 1];
};

struct found {
    long events;
    int came, closed, sampled;
    int came_to[MAX_READY], closed_by[MAX_READY];
    double ages[MAX_READY];
};

struct reader *reader_new(int epoll, const char *marker, int size) {
    struct reader *reader = size > 0 && size < MAX_MARKER ? calloc(1, sizeof *reader) : NULL;
    if (reader) {
        reader->epoll = epoll;
        reader->marked = size;
        memcpy(reader->marker, marker, size);
    }
    return reader;
}

void reader_free(struct reader *reader) {
    free(reader->clients);
    free(reader);
}

/* Returns 0, or -1 without memory. */
int reader_add(struct reader *reader, int fd, int sampled) {
    if (fd >= reader->room) {
        int room = 2 * fd + 64;
        struct client *clients = realloc(reader->clients, room * sizeof *clients);
        if (!clients)
            return -1;
        reader->clients = clients;
        reader->room = room;
    }
    reader->clients[fd] = (struct client){.sampled = sampled};
    return 0;
}

long reader_events(struct reader *reader, int fd) { return reader->clients[fd].events; }

void reader_forget(struct reader *reader, int fd) { reader->clients[fd].events = 0; }

static void pong(struct client *client, int fd, const char *ping, const char *end) {
    char frame[6 + 125] = {(char)PONG};
    size_t size = end - ping > 1 ? ping[1] & 0x7F : 0;
    if (size > 125 || ping + 2 + size >= end) {
        /* Nothing follows it, and its own bytes begin no marker. */
        client->kept = 0;
        size = end - ping > 2 ? end - ping - 2 : 0;
    }
    frame[1] = (char)(0x80 | size); /* a mask of zeros is a mask too (RFC 6455 §5.3) */
    memcpy(frame + 6, ping + 2, size);
    /* Where the other side is gone, the next read says so. */
    send(fd, frame, 6 + size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Answers the first ping. `begins`: a frame begins where the data does; elsewhere the same byte may
 * be the length of a frame, so it counts only behind the end of an event. */
static void answer_ping(struct client *client, int fd, const char *data, const char *end,
                        int begins) {
    const char *at = memchr(data, PING, end - data);
    if (at == data && begins) {
        pong(client, fd, data, end);
        return;
    }
    for (; at; at = memchr(at + 1, PING, end - at - 1))
        if (at > data && at[-1] == '}') {
            pong(client, fd, at, end);
            return;
        }
}

/* Counts what is in `size` bytes behind the tail, which lies before them already. */
static long count(struct reader *reader, int fd, char *data, size_t size) {
    struct client *client = &reader->clients[fd];
    int begins = !client->kept;
    char *end = data + size, *at = data;
    long events = 0;
    while ((size_t)(end - at) >= reader->marked &&
           (at = memchr(at, reader->marker[0], end - at - reader->marked + 1))) {
        if (memcmp(at, reader->marker, reader->marked)) {
            at++;
        } else {
            events++;
            at += reader->marked;
        }
    }
    client->events += events;
    client->kept = 0;
    if (!memchr("}\n]", end[-1], 3)) {
        client->kept = size < reader->marked - 1 ? size : reader->marked - 1;
        memcpy(client->tail, end - client->kept, client->kept);
    }
    answer_ping(client, fd, data, end, begins);
    return events;
}

/* Counts in bytes that were read elsewhere: those behind the last answer of an opening. */
long reader_feed(struct reader *reader, int fd, const char *data, int size) {
    if (size <= 0 || size > READ)
        return 0;
    memcpy(reader->buffer, data, size);
    return count(reader, fd, reader->buffer, size);
}

/* How old the last event in the data is, in seconds; negative when it holds no stamp. */
static double age(const char *data, const char *end) {
    size_t length = sizeof published - 1;
    for (const char *at = end - length; at >= data; at--)
        if (*at == '"' && !memcmp(at, published, length)) {
            char *last;
            double stamp = strtod(at + length, &last);
            struct timespec now;
            if (last >= end || *last != '}')
                return -1;
            clock_gettime(CLOCK_REALTIME, &now);
            return now.tv_sec + now.tv_nsec / 1e9 - stamp;
        }
    return -1;
}

/* Reads one socket once; returns 0 when the peer closed it. */
static int read_one(struct reader *reader, int fd, struct found *found) {
    struct client *client = &reader->clients[fd];
    char *data = reader->buffer;
    int kept = client->kept;
    memcpy(data, client->tail, kept);
    ssize_t size = recv(fd, data + kept, READ, MSG_DONTWAIT);
    if (size <= 0)
        return size < 0 && (errno == EAGAIN || errno == EINTR);
    data[kept + size] = 0;
    long events = count(reader, fd, data, kept + size);
    if (events) {
        found->events += events;
        found->came_to[found->came++] = fd;
    }
    if (client->sampled) {
        double seconds = age(data, data + kept + size);
        if (seconds >= 0)
            found->ages[found->sampled++] = seconds;
    }
    return 1;
}

static void nothing_yet(struct found *found) {
    found->events = found->came = found->closed = found->sampled = 0;
}

/* Reads one socket that is ready. */
void reader_read_one(struct reader *reader, int fd, struct found *found) {
    nothing_yet(found);
    if (!read_one(reader, fd, found))
        found->closed_by[found->closed++] = fd;
}

/* Waits at most `timeout` ms for something to read, and reads it. Returns how many sockets were
 * ready, or a negative errno. */
int reader_read(struct reader *reader, int timeout, struct found *found) {
    static struct epoll_event ready[MAX_READY];
    nothing_yet(found);
    int number = epoll_wait(reader->epoll, ready, MAX_READY, timeout);
    if (number < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < number; i++)
        if (!read_one(reader, ready[i].data.fd, found))
            found->closed_by[found->closed++] = ready[i].data.fd;
    return number;
}
