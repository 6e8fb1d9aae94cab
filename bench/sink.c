// Fetches one path over and over on many connections for some seconds and throws away what comes.
//
//   sink HOST-ADDRESS PORT PATH CONNECTIONS SECONDS [discard]
//
// Prints: answers finished, bytes received per second, connections that failed. `discard` lets the kernel throw the
// bytes away (MSG_TRUNC) instead of copying them here: the load of clients that are on other machines.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 256 << 10, HEAD = 4096 };
struct conn { int fd; long long left; int head_len; char head[HEAD]; };
static char buffer[BUFFER], request[2048];
static struct sockaddr_in peer;
static long long bytes, answers, failed;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
static void ask(struct conn *c) {
    c->left = -1;
    c->head_len = 0;
    if (write(c->fd, request, strlen(request)) < 0) failed++;
}
static void start(struct conn *c, int ep) {
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (void *)&peer, sizeof peer) < 0) { perror("connect"); exit(1); }
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
    ask(c);
}
static void readable(struct conn *c, int ep, int flags) {
    if (c->left < 0) { // The head comes with some of the body.
        ssize_t n = recv(c->fd, c->head + c->head_len, HEAD - 1 - c->head_len, MSG_DONTWAIT);
        if (n <= 0) goto over;
        c->head_len += n;
        c->head[c->head_len] = 0;
        char *end = strstr(c->head, "\r\n\r\n"), *length = strcasestr(c->head, "\r\ncontent-length:");
        if (!end) { if (c->head_len == HEAD - 1) goto over; return; }
        if (strncmp(c->head + 9, "200", 3) || !length) { fprintf(stderr, "%.200s\n", c->head); exit(1); }
        c->left = atoll(length + 17) - (c->head + c->head_len - end - 4);
        bytes += c->head_len;
    } else {
        ssize_t n = recv(c->fd, buffer, c->left < BUFFER ? c->left : BUFFER, MSG_DONTWAIT | flags);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n <= 0) goto over;
        c->left -= n;
        bytes += n;
    }
    if (c->left == 0) { answers++; ask(c); }
    return;
over:
    failed++;
    close(c->fd);
    start(c, ep);
}
int main(int argc, char **argv) {
    if (argc < 6) return 2;
    int count = atoi(argv[4]), ep = epoll_create1(0), flags = argc > 6 ? MSG_TRUNC : 0;
    double seconds = atof(argv[5]);
    peer.sin_family = AF_INET;
    peer.sin_port = htons(atoi(argv[2]));
    inet_pton(AF_INET, argv[1], &peer.sin_addr);
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s:%s\r\n%s\r\n", argv[3], argv[1], argv[2],
             "Accept: application/vnd.oci.image.manifest.v1+json, */*\r\n");
    struct conn *all = calloc(count, sizeof *all);
    for (int i = 0; i < count; i++) start(&all[i], ep);
    double begin = now();
    struct epoll_event events[64];
    while (now() - begin < seconds) {
        int n = epoll_wait(ep, events, 64, 100);
        for (int i = 0; i < n; i++) readable(events[i].data.ptr, ep, flags);
    }
    printf("%lld %.0f %lld\n", answers, bytes / (now() - begin), failed);
}
