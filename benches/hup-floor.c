/* The least a restart can be: a HUP asks the child to end, waits for it and starts argv[1..] again. With `-e` before
   those it executes itself first, unproven, and finds the child in its environment. A TERM is passed on and ends this
   too. It notices nothing else, a child that ends by itself least of all. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static sigset_t heard;

static pid_t start(char **argv) {
    pid_t pid = vfork();

    if (pid == 0) {
        sigprocmask(SIG_UNBLOCK, &heard, NULL);
        execv(argv[0], argv);
        _exit(127);
    }
    return pid;
}

static void stop(pid_t pid) {
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
}

int main(int argc, char **argv) {
    int executes = argc > 1 && strcmp(argv[1], "-e") == 0;
    char **command = argv + 1 + executes;
    const char *adopted = getenv("CHILD");
    int signal = 0;
    pid_t pid;

    if (!*command)
        return 125;
    sigemptyset(&heard);
    sigaddset(&heard, SIGHUP);
    sigaddset(&heard, SIGTERM);
    sigprocmask(SIG_BLOCK, &heard, NULL);
    if (adopted)
        stop(atoi(adopted));
    for (;;) {
        pid = start(command);
        if (pid < 0 || sigwait(&heard, &signal) != 0)
            return 125;
        if (signal == SIGHUP && executes) {
            char text[20];
            snprintf(text, sizeof text, "%d", pid);
            setenv("CHILD", text, 1);
            execv(argv[0], argv);
            return 125;
        }
        stop(pid);
        if (signal != SIGHUP)
            return 0;
    }
}
