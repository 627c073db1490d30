/* A slave that costs as little as possible: one thread a connection, the last answer kept.
   Speaks RTU over TCP and Modbus TCP, told apart by the length of the request.
   Prints its port on the first line; ends when its standard input does. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned crc16(const uint8_t *data, int size) {
    unsigned crc = 0xFFFF;
    while (size--) {
        crc ^= *data++;
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >> 1) ^ 0xA001 : crc >> 1;
    }
    return crc;
}

/* unit, function, byte count, words; gives the length */
static int answer_pdu(const uint8_t *request, uint8_t *answer) {
    int address = request[2] << 8 | request[3], count = request[4] << 8 | request[5];
    if (count > 125) count = 125;
    answer[0] = request[0];
    answer[1] = request[1];
    answer[2] = 2 * count;
    for (int n = 0; n < count; n++) {
        answer[3 + 2 * n] = (address + n) >> 8;
        answer[4 + 2 * n] = address + n;
    }
    return 3 + 2 * count;
}

static void *serve(void *arg) {
    int call = (int)(intptr_t)arg, size = 0, got;
    uint8_t request[512], known[8] = {0}, answer[300];
    while ((got = read(call, request, sizeof request)) > 0) {
        if (got == 8) {
            if (memcmp(request, known, 8)) {
                size = answer_pdu(request, answer);
                unsigned crc = crc16(answer, size);
                answer[size++] = crc;
                answer[size++] = crc >> 8;
                memcpy(known, request, 8);
            }
        } else if (got == 12) {
            memset(known, 0, 8);
            int body = answer_pdu(request + 6, answer + 6);
            memcpy(answer, request, 4);
            answer[4] = body >> 8;
            answer[5] = body;
            size = 6 + body;
        } else {
            break;
        }
        if (write(call, answer, size) != size) break;
    }
    close(call);
    return NULL;
}

static void *end_with_stdin(void *unused) {
    char byte;
    while (read(0, &byte, 1) > 0) {}
    _exit(0);
    return unused;
}

int main(void) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof here;
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    pthread_t thread;
    if (bind(listener, (struct sockaddr *)&here, size) || listen(listener, 128)) return 1;
    getsockname(listener, (struct sockaddr *)&here, &size);
    printf("%d\n", ntohs(here.sin_port));
    fflush(stdout);
    pthread_create(&thread, NULL, end_with_stdin, NULL);
    for (;;) {
        int call = accept(listener, NULL, NULL);
        if (call < 0) return 1;
        setsockopt(call, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        pthread_create(&thread, NULL, serve, (void *)(intptr_t)call);
        pthread_detach(thread);
    }
}
