/* PORT CONNECTIONS REQUESTS: reads 60 registers so often, one thread a connection, with libmodbus.
   Prints the seconds it took. */
#include <modbus.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int requests_each, port;

static void *work(void *unused) {
    uint16_t words[60];
    modbus_t *line = modbus_new_tcp("127.0.0.1", port);
    (void)unused;
    modbus_set_slave(line, 1);
    if (modbus_connect(line)) exit(1);
    for (int n = 0; n < requests_each; n++)
        if (modbus_read_registers(line, 0, 60, words) != 60) exit(1);
    modbus_close(line);
    modbus_free(line);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int connections = atoi(argv[2]);
    pthread_t threads[64];
    struct timespec begin, end;
    if (connections < 1 || connections > 64) return 2;
    port = atoi(argv[1]);
    requests_each = atoi(argv[3]) / connections;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int n = 0; n < connections; n++) pthread_create(&threads[n], NULL, work, NULL);
    for (int n = 0; n < connections; n++) pthread_join(threads[n], NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%f\n", end.tv_sec - begin.tv_sec + 1e-9 * (end.tv_nsec - begin.tv_nsec));
    return 0;
}
