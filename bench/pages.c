/*
 * A server that answers every HTTP request with the same short page and keeps connections open: the load for bench/ports.sh.
 *
 *   pages PORT
 *
 * One thread, epoll, IPv4. It counts ends of request heads; bodies are not understood.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const char page[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n";

static void check(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

/* Answers every request head that ends in what has arrived; false when the connection is over. */
static int serve(int fd)
{
    char in[16384];
    ssize_t n = recv(fd, in, sizeof in - 1, 0);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR);
    in[n] = 0;
    for (char *at = in; (at = strstr(at, "\r\n\r\n")) != NULL; at += 4)
        if (send(fd, page, sizeof page - 1, MSG_NOSIGNAL) < 0)
            return 0;
    return 1;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: pages PORT\n");
        return 1;
    }
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1]))};
    check(listener, "socket");
    check(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes), "SO_REUSEADDR");
    check(bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    check(listen(listener, 1024), "listen");
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = listener}, ready[64];
    check(epoll_ctl(poll, EPOLL_CTL_ADD, listener, &wanted), "epoll");
    for (;;) {
        int n = epoll_wait(poll, ready, 64, -1);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd != listener) {
                if (!serve(fd))
                    close(fd);
                continue;
            }
            int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            if (client < 0)
                continue;
            setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
            wanted.data.fd = client;
            check(epoll_ctl(poll, EPOLL_CTL_ADD, client, &wanted), "epoll");
        }
    }
}
