/*
 * The least that a fan-out can do: read lines on one connection, frame each once, and send() it
 * to every WebSocket. No TLS, no parsing, no second topic. It bounds what any gateway here can
 * reach, and shows what the load generator takes. With `joined`, the frames of all lines that were
 * read together go out in one send() a socket.
 *
 *     sender WEBSOCKET_PORT PUBLISH_PORT [joined]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_SOCKETS 20000
#define LINE 65536

static int sockets[MAX_SOCKETS];
static int count;
/* Room for the frames of a full buffer: a line of n bytes takes n + 1 there, n + 2 or n + 4 here. */
static char frames[2 * LINE];
static size_t framed;

static int listen_on(int port) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) {
        perror("listen");
        exit(1);
    }
    return fd;
}

/* Writes all of it, waiting where the reader is slow; a reader that went away is left out. */
static void send_all(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            data += sent;
            size -= sent;
        } else if (errno == EAGAIN) {
            struct pollfd writable = {.fd = fd, .events = POLLOUT};
            poll(&writable, 1, 1000);
        } else if (errno != EINTR) {
            return;
        }
    }
}

static void add_frame(const char *line, size_t size) {
    char *frame = frames + framed;
    *frame++ = (char)0x81;
    if (size < 126) {
        *frame++ = (char)size;
    } else {
        *frame++ = 126;
        *frame++ = (char)(size >> 8);
        *frame++ = (char)size;
    }
    memcpy(frame, line, size);
    framed = frame + size - frames;
}

static void deliver(void) {
    for (int i = 0; i < count && framed; i++)
        send_all(sockets[i], frames, framed);
    framed = 0;
}

/* Accepts one upgrade, whatever it says: the request of the load generator comes in one piece. */
static void welcome(int listener, int epoll) {
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                 "Connection: Upgrade\r\n\r\n";
    int one = 1, fd = accept(listener, NULL, NULL);
    char request[4096];
    if (fd < 0)
        return;
    if (count == MAX_SOCKETS || recv(fd, request, sizeof request, 0) <= 0) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    send_all(fd, answer, sizeof answer - 1);
    struct epoll_event gone = {.events = EPOLLRDHUP, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &gone);
    sockets[count++] = fd;
}

static void forget(int fd) {
    for (int i = 0; i < count; i++)
        if (sockets[i] == fd)
            sockets[i] = sockets[--count];
    close(fd);
}

int main(int argc, char **argv) {
    int joined = argc == 4 && !strcmp(argv[3], "joined");
    if (argc != 3 && !joined)
        return 2;
    static char buffer[LINE];
    size_t filled = 0;
    int upgrades = listen_on(atoi(argv[1])), publishes = listen_on(atoi(argv[2]));
    int publisher = -1, epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = upgrades}, ready[64];
    epoll_ctl(epoll, EPOLL_CTL_ADD, upgrades, &event);
    event.data.fd = publishes;
    epoll_ctl(epoll, EPOLL_CTL_ADD, publishes, &event);
    for (;;) {
        int found = epoll_wait(epoll, ready, 64, -1);
        for (int i = 0; i < found; i++) {
            int fd = ready[i].data.fd;
            if (fd == upgrades) {
                welcome(upgrades, epoll);
            } else if (fd == publishes) {
                publisher = accept(publishes, NULL, NULL);
                filled = 0;
                event.data.fd = publisher;
                epoll_ctl(epoll, EPOLL_CTL_ADD, publisher, &event);
            } else if (fd == publisher) {
                ssize_t size = recv(fd, buffer + filled, sizeof buffer - filled, 0);
                if (size <= 0) {
                    close(fd);
                    publisher = -1;
                    continue;
                }
                filled += size;
                char *start = buffer, *end;
                while ((end = memchr(start, '\n', buffer + filled - start))) {
                    add_frame(start, end - start);
                    if (!joined)
                        deliver();
                    start = end + 1;
                }
                deliver();
                filled -= start - buffer;
                memmove(buffer, start, filled);
            } else {
                forget(fd);
            }
        }
    }
}
