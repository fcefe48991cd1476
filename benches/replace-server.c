/* The server of the table `replace`: answers every request with its generation, on the socket that SERVER_STARTER_PORT
   names. When it listens it says so to NOTIFY_SOCKET, if there is one. After a TERM it accepts no more connections, says
   goodbye with the next answer on each that it has, and ends. No request is to be lost through it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MOST = 1024, LAST = 100 };
static const char END[] = "\r\n\r\n";

/* By descriptor: how many requests it has brought, and how much of the end of the next one was seen. */
static struct {
    int requests, seen;
} connections[MOST];

static void say_ready(void) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t length = path ? strlen(path) : 0;
    int fd;

    if (length == 0 || length >= sizeof to.sun_path)
        return;
    memcpy(to.sun_path, path, length);
    if (path[0] == '@')
        to.sun_path[0] = 0;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sendto(fd, "READY=1", 7, 0, (struct sockaddr *)&to, offsetof(struct sockaddr_un, sun_path) + length);
    close(fd);
}

static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    if (fd >= MOST || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        exit(1);
}

/* Whether the connection goes on. */
static int answer(int fd, const char *generation, int draining) {
    int last = ++connections[fd].requests >= LAST || draining;
    char text[200];
    int length = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: %s\r\n\r\n%s",
                          strlen(generation), last ? "close" : "keep-alive", generation);

    return send(fd, text, length, MSG_NOSIGNAL) == length && !last;
}

/* Likewise. Requests have no body, and wait for the answer to the one before. */
static int serve(int fd, const char *generation, int draining) {
    char text[4096];
    ssize_t at, length = recv(fd, text, sizeof text, 0);

    if (length <= 0)
        return 0;
    for (at = 0; at < length; at++) {
        int *seen = &connections[fd].seen;
        *seen = text[at] == END[*seen] ? *seen + 1 : text[at] == END[0];
        if (*seen == 4) {
            *seen = 0;
            if (!answer(fd, generation, draining))
                return 0;
        }
    }
    return 1;
}

int main(void) {
    const char *port = getenv("SERVER_STARTER_PORT");
    const char *generation = getenv("SERVER_STARTER_GENERATION");
    struct epoll_event events[64];
    int listening, stop, epoll, draining = 0, open = 0;
    sigset_t term;

    if (!port || !generation || !strrchr(port, '='))
        return 2;
    /* The bench may be killed, and its supervisors with it. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    listening = atoi(strrchr(port, '=') + 1);
    fcntl(listening, F_SETFL, fcntl(listening, F_GETFL) | O_NONBLOCK);
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    stop = signalfd(-1, &term, SFD_CLOEXEC);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(epoll, stop);
    watch(epoll, listening);
    say_ready();

    while (!draining || open > 0) {
        int at, count = epoll_wait(epoll, events, 64, -1);
        for (at = 0; at < count; at++) {
            int fd = events[at].data.fd;
            if (fd == stop) {
                draining = 1;
                epoll_ctl(epoll, EPOLL_CTL_DEL, stop, NULL);
                epoll_ctl(epoll, EPOLL_CTL_DEL, listening, NULL);
            } else if (fd != listening) {
                if (!serve(fd, generation, draining)) {
                    close(fd);
                    open--;
                }
            } else if (!draining && (fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
                watch(epoll, fd);
                connections[fd].requests = connections[fd].seen = 0;
                open++;
            }
        }
    }
    return 0;
}
